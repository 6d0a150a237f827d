// The part of the REST contract on one key: its value, its conditions, its name in a path.

import { describe, expect, test } from 'vitest'
import { type Bench, founding } from './contract.ts'

export function describeKeys({ as, expectProblem, put, url }: Bench): void {
  describe('a key', () => {
    test('is stored and read back as the same bytes and type', async () => {
      const bytes = Uint8Array.from({ length: 256 }, (_, index) => index)
      const set = await as('PUT', '/v1/stores/default/keys/bytes', {
        body: bytes,
        headers: { 'content-type': 'image/x-Thing; q="a;b"' },
      })
      expect(set.status).toBe(201)
      expect(set.json).toMatchObject({ created: true, changed: true })
      expect(set.headers.etag).toBe(`"${set.json['revision']}"`)
      const read = await as('GET', '/v1/stores/default/keys/bytes')
      expect(read.status).toBe(200)
      expect([...read.body]).toEqual([...bytes])
      expect(read.headers).toMatchObject({
        'content-type': 'image/x-Thing; q="a;b"',
        'content-length': '256',
        etag: set.headers.etag,
        'x-content-type-options': 'nosniff',
        'content-security-policy': 'sandbox',
        'cache-control': 'private, no-cache, no-transform',
      })
    })

    test('tells by HEAD what GET would, without the value', async () => {
      await put('/v1/stores/default/keys/headed', 'hello')
      const head = await as('HEAD', '/v1/stores/default/keys/headed')
      const get = await as('GET', '/v1/stores/default/keys/headed')
      const { date: _d, 'trivet-request': _r, ...headers } = get.headers
      expect(head.status).toBe(200)
      expect(head.headers).toMatchObject(headers)
      expect(head.body.length).toBe(0)
      const missing = await as('HEAD', '/v1/stores/default/keys/not-there')
      expect(missing.status).toBe(404)
      expect(missing.headers['trivet-error']).toBe('no-such-key')
    })

    test('may be empty, and has a type even when none was said', async () => {
      await put('/v1/stores/default/keys/empty', '')
      const read = await as('GET', '/v1/stores/default/keys/empty')
      expect(read).toMatchObject({ status: 200, text: '' })
      expect(read.headers['content-type']).toBe('application/octet-stream')
      expect(read.headers['content-length']).toBe('0')
    })

    test('tells creation, overwriting and repetition apart', async () => {
      const path = '/v1/stores/default/keys/thrice'
      const first = await as('PUT', path, { body: 'a' })
      const second = await as('PUT', path, { body: 'a' })
      const third = await as('PUT', path, { body: 'b' })
      expect([first.status, second.status, third.status]).toEqual([201, 200, 200])
      expect(second.json).toMatchObject({ created: false, changed: false })
      expect(third.json).toMatchObject({ created: false, changed: true })
      expect(Number(third.json['revision'])).toBeGreaterThan(Number(second.json['revision']))
    })

    test('is deleted, whether it was there or not', async () => {
      await put('/v1/stores/default/keys/doomed', 'x')
      const first = await as('DELETE', '/v1/stores/default/keys/doomed')
      const second = await as('DELETE', '/v1/stores/default/keys/doomed')
      expect(first).toMatchObject({ status: 200, json: { deleted: true } })
      expect(second).toMatchObject({ status: 200, json: { deleted: false } })
      expectProblem(await as('GET', '/v1/stores/default/keys/doomed'), 404, 'no-such-key')
    })

    test('says where the time of a write went, and at which revision', async () => {
      const set = await as('PUT', '/v1/stores/default/keys/timed', { body: 'x' })
      expect(set.headers['server-timing']).toMatch(
        /^forward;dur=[\d.]+, queue;dur=[\d.]+, fsync;dur=[\d.]+, quorum;dur=[\d.]+, apply;dur=[\d.]+$/,
      )
      expect(Number(set.headers['trivet-revision'])).toBeGreaterThanOrEqual(Number(set.json['revision']))
      const gone = await as('DELETE', '/v1/stores/default/keys/timed')
      expect(gone.headers['server-timing']).toMatch(/^forward;dur=/)
    })

    test.each([
      ['a/b', 'a%2Fb'],
      ['%61', 'a'],
      ['a+b', 'a%2Bb'],
      ['%C3%A4', '%c3%a4'],
      ['a//b', 'a%2F/b'],
      ['.../...', '%2E../..%2e'],
      ['-', '%2D'],
      ['x%20y%00z', 'x%20y%00z'],
      ['keys/keys/x', 'keys%2Fkeys%2Fx'],
    ])('%s and %s are one key', async (one, other) => {
      const revision = await put(`/v1/stores/default/keys/${one}`, one)
      const read = await as('GET', `/v1/stores/default/keys/${other}`)
      expect(read).toMatchObject({ status: 200, text: one, headers: { etag: `"${revision}"` } })
    })

    test.each([
      ['a%252Fb', 'a%2Fb'],
      ['e%CC%81', '%C3%A9'],
      ['A', 'a'],
      ['a/', 'a'],
    ])('%s and %s are two keys', async (one, other) => {
      await put(`/v1/stores/default/keys/two-${one}`, 'one')
      await put(`/v1/stores/default/keys/two-${other}`, 'other')
      expect(await as('GET', `/v1/stores/default/keys/two-${one}`)).toMatchObject({ text: 'one' })
    })

    test('has up to 4,096 bytes, counted after decoding', async () => {
      const longest = '%C3%A4'.repeat(2048)
      await put(`/v1/stores/default/keys/${longest}`, 'long')
      expect(await as('GET', `/v1/stores/default/keys/${longest}`)).toMatchObject({ text: 'long' })
      const longer = await as('PUT', `/v1/stores/default/keys/${longest}x`, { body: 'x' })
      expectProblem(longer, 400, 'invalid-key', 'key')
      expect(longer.json).toMatchObject({ limit: 4096, actual: 4097 })
    })

    test.each([
      '',
      '.',
      '..',
      'a/./b',
      'a/../b',
      '%2E%2E',
      '%2e',
      'a%2F..',
      '..%2Fa',
      '%FF',
      '%C3',
      '%ED%A0%80',
      '%',
      'a%2',
      'a%zz',
      'a#b',
    ])('%j in a path is no key', async (key) => {
      for (const method of ['GET', 'PUT', 'DELETE']) {
        expectProblem(await as(method, `/v1/stores/default/keys/${key}`), 400, 'invalid-key', 'key')
      }
    })

    test('is found through the absolute form that proxies send', async () => {
      await put('/v1/stores/default/keys/a%2Fproxied', 'yes')
      const read = await as('GET', `${url()}/v1/stores/default/keys/a%2Fproxied?consistency=stale`)
      expect(read).toMatchObject({ status: 200, text: 'yes' })
    })
  })

  describe('a condition', () => {
    const path = '/v1/stores/default/keys/conditional'

    test('holds for the present revision, in a list, or weakened by a proxy', async () => {
      for (const form of ['"R"', 'W/"R"', '"x", "R"', ' "1" ,, W/"R" ', '*']) {
        const revision = await put(path, form)
        const answer = await as('PUT', path, {
          body: 'next',
          headers: { 'if-match': form.replace('R', String(revision)) },
        })
        expect(answer.status, form).toBe(200)
      }
    })

    test('that does not hold answers 412 with the present revision', async () => {
      const revision = await put(path, 'here')
      for (const headers of [
        { 'if-match': '"1"' },
        { 'if-match': '"foreign"' },
        { 'if-match': `"0${revision}"` },
        { 'if-none-match': '*' },
      ]) {
        for (const method of ['PUT', 'DELETE']) {
          const answer = await as(method, path, { body: 'x', headers })
          expectProblem(answer, 412, 'condition-failed')
          expect(answer.json['revision']).toBe(revision)
          expect(answer.headers.etag).toBeUndefined()
        }
      }
      const absent = await as('DELETE', '/v1/stores/default/keys/absent', { headers: { 'if-match': '*' } })
      expectProblem(absent, 412, 'condition-failed')
      expect(absent.json['revision']).toBe(0)
    })

    test('creates only where nothing stands', async () => {
      await as('DELETE', path)
      const create = { body: 'x', headers: { 'if-none-match': '*' } }
      expect((await as('PUT', path, create)).status).toBe(201)
      expect((await as('PUT', path, create)).status).toBe(412)
    })

    test('on a read answers 304 to whoever has it', async () => {
      const revision = await put(path, 'known')
      for (const tag of [`"${revision}"`, `W/"${revision}"`, `"a", "${revision}"`, '*']) {
        const answer = await as('GET', path, { headers: { 'if-none-match': tag } })
        expect(answer).toMatchObject({ status: 304, text: '', headers: { etag: `"${revision}"` } })
        expect(answer.headers['cache-control']).toBe('private, no-cache, no-transform')
      }
      expect((await as('HEAD', path, { headers: { 'if-none-match': '*' } })).status).toBe(304)
      const other = await as('GET', path, { headers: { 'if-none-match': `"${revision + 1}"` } })
      expect(other).toMatchObject({ status: 200, text: 'known' })
    })

    test.each([
      ['GET', path, { 'if-match': '"1"' }, 'if-match'],
      ['GET', path, { 'if-modified-since': 'Sat, 21 Nov 2026 22:14:27 GMT' }, 'if-modified-since'],
      ['PUT', path, { 'if-unmodified-since': 'Sat, 21 Nov 2026 22:14:27 GMT' }, 'if-unmodified-since'],
      ['PUT', path, { 'if-none-match': '"1"' }, 'if-none-match'],
      ['PUT', path, { 'if-match': '1' }, 'if-match'],
      ['PUT', path, { 'if-match': '' }, 'if-match'],
      ['PUT', path, { 'if-match': '"1", *' }, 'if-match'],
      ['PUT', path, { 'if-match': '"1" "2"' }, 'if-match'],
      ['GET', path, { 'if-none-match': 'w/"1"' }, 'if-none-match'],
      ['GET', '/v1/stores/default/keys/absent', { 'if-none-match': 'x' }, 'if-none-match'],
      ['GET', '/v1/stores/default/keys', { 'if-none-match': '*' }, 'if-none-match'],
      ['GET', '/v1/me', { 'if-match': '*' }, 'if-match'],
    ])('%s %s with %j is refused, not ignored', async (method, target, headers, field) => {
      await put(path, 'stands')
      expectProblem(
        await as(method, target, { headers: headers as Record<string, string> }),
        400,
        'invalid-request',
        field,
      )
    })
  })

  describe('a value', () => {
    test('goes up to the limit of its store, and no further', async () => {
      expect((await as('PUT', '/v1/stores/small/keys/k', { body: '0123456789' })).status).toBe(201)
      const over = await as('PUT', '/v1/stores/small/keys/k', { body: '0123456789a' })
      expectProblem(over, 413, 'value-too-large')
      expect(over.json).toMatchObject({ limit: 10, actual: 11 })
      const large = new Uint8Array(founding.valueBytes).fill(7)
      expect((await as('PUT', '/v1/stores/default/keys/large', { body: large })).status).toBe(201)
      expect((await as('GET', '/v1/stores/default/keys/large')).body.equals(large)).toBe(true)
    })

    test.each([
      'nonsense',
      'text/',
      'text/plain; charset',
      `text/${'x'.repeat(255)}`,
      'text/plain; a="b',
      'text/pläin',
    ])('is not stored with the type %s', async (type) => {
      const answer = await as('PUT', '/v1/stores/default/keys/typed', {
        body: 'x',
        headers: { 'content-type': type },
      })
      expectProblem(answer, 400, 'invalid-request', 'content-type')
    })

    test.each([
      'application/x-www-form-urlencoded',
      'application/json',
      'multipart/form-data; boundary=x',
      'text/plain;',
    ])('of type %s is stored as it is', async (type) => {
      const set = await as('PUT', '/v1/stores/default/keys/any', {
        body: '{]',
        headers: { 'content-type': type },
      })
      expect(set.status).toBeLessThan(300)
      const read = await as('GET', '/v1/stores/default/keys/any')
      expect(read).toMatchObject({ text: '{]', headers: { 'content-type': type } })
    })

    test('that came compressed is not taken', async () => {
      const answer = await as('PUT', '/v1/stores/default/keys/zipped', {
        body: 'x',
        headers: { 'content-encoding': 'gzip' },
      })
      expectProblem(answer, 415, 'unsupported-media-type', 'content-encoding')
    })
  })

  describe('a counter', () => {
    const counter = '/v1/stores/default/keys/counter'
    const json = { 'content-type': 'application/json' }

    test('counts a missing key as 0 and adds 1, or what is said', async () => {
      const first = await as('POST', `${counter}/increment`)
      expect(first).toMatchObject({ status: 200, json: { value: '1', revision: expect.any(Number) } })
      expect(first.headers.etag).toBe(`"${first.json['revision']}"`)
      expect(first.headers['server-timing']).toMatch(/^forward;dur=/)
      for (const [body, value] of [
        ['{}', '2'],
        ['{"delta":40}', '42'],
        ['{"delta":-43}', '-1'],
        ['{"delta":"9223372036854775807"}', '9223372036854775806'],
        ['{"delta":"-9223372036854775808"}', '-2'],
      ]) {
        const answer = await as('POST', `${counter}/increment`, { body, headers: json })
        expect(answer, body).toMatchObject({ status: 200, json: { value } })
      }
      expect(await as('GET', counter)).toMatchObject({
        text: '-2',
        headers: { 'content-type': 'text/plain' },
      })
    })

    test('keeps the type of what stood there, and refuses what is no number or would be too large', async () => {
      await put(`${counter}/typed`, '5', { 'content-type': 'application/json' })
      await as('POST', `${counter}/typed/increment`)
      expect(await as('GET', `${counter}/typed`)).toMatchObject({
        text: '6',
        headers: { 'content-type': 'application/json' },
      })
      for (const wrong of ['five', '', '5 ', '0x5', '1.5', '9223372036854775808']) {
        await put(`${counter}/wrong`, wrong)
        expectProblem(await as('POST', `${counter}/wrong/increment`), 409, 'not-a-number')
      }
      await put(`${counter}/full`, '9223372036854775807')
      expectProblem(await as('POST', `${counter}/full/increment`), 409, 'overflow')
      expect((await as('GET', `${counter}/full`)).text).toBe('9223372036854775807')
    })

    test.each([
      ['{"delta":1.5}', 'delta'],
      ['{"delta":"1.5"}', 'delta'],
      ['{"delta":"9223372036854775808"}', 'delta'],
      ['{"delta":9007199254740993}', 'delta'],
      ['{"delta":true}', 'delta'],
      ['{"ttl":"soon"}', 'ttl'],
      ['{"ttl":5}', 'ttl'],
      ['{"by":5}', 'by'],
      ['null', 'body'],
      ['[]', 'body'],
      ['{', 'body'],
    ])('takes no %s', async (body, field) => {
      const answer = await as('POST', `${counter}/increment`, { body, headers: json })
      expectProblem(answer, 400, 'invalid-request', field)
    })

    test('has a lifetime only where it is created', async () => {
      const body = '{"ttl":"1h"}'
      await as('POST', `${counter}/mortal/increment`, { body, headers: json })
      const expires = (await as('GET', `${counter}/mortal`)).headers['trivet-expires']
      expect(expires).toMatch(/^\d{4}-/)
      await as('POST', `${counter}/mortal/increment`, { body: '{"ttl":"9h"}', headers: json })
      expect((await as('GET', `${counter}/mortal`)).headers['trivet-expires']).toBe(expires)
    })

    test('is added to under conditions, and once however often it is sent', async () => {
      const path = `${counter}/once`
      const absent = { 'if-none-match': '*' }
      expect((await as('POST', `${path}/increment`, { headers: absent })).status).toBe(200)
      expectProblem(await as('POST', `${path}/increment`, { headers: absent }), 412, 'condition-failed')
      const headers = { 'idempotency-key': 'counter-1' }
      const first = await as('POST', `${path}/increment`, { headers })
      const again = await as('POST', `${path}/increment`, { headers })
      expect(again).toMatchObject({ text: first.text, headers: { 'idempotency-replayed': 'true' } })
      expect((await as('GET', path)).text).toBe('2')
      const other = await as('POST', `${path}/increment`, {
        body: '{"delta":2}',
        headers: { ...json, ...headers },
      })
      expectProblem(other, 422, 'idempotency-key-reused')
    })

    test.each([
      ['counter/path/increment', 'counter/path'],
      ['counter%2Fcoded%2Fincrement', 'counter/coded'],
      ['counter-slash%2F/increment', 'counter-slash/'],
      ['counter-twice/increment/increment', 'counter-twice/increment'],
      ['--/increment', '--'],
    ])('POST keys/%s is about the key %s', async (path, key) => {
      expect((await as('POST', `/v1/stores/default/keys/${path}`)).json).toMatchObject({ value: '1' })
      expect((await as('GET', `/v1/stores/default/keys/${encodeURIComponent(key)}`)).text).toBe('1')
    })

    test.each(['increment', '/increment', '%2Fincrement', 'a/../increment', '%FF/increment'])(
      'POST keys/%s is about no key',
      async (path) => {
        const answer = await as('POST', `/v1/stores/default/keys/${path}`)
        expectProblem(answer, 400, 'invalid-key', 'key')
      },
    )
  })

  describe('a lifetime', () => {
    const path = '/v1/stores/default/keys/mortal'
    const expiresIn = async (target = path): Promise<number | undefined> => {
      const text = (await as('GET', target)).headers['trivet-expires']
      return text === undefined ? undefined : Date.parse(String(text)) - Date.now()
    }

    test('is set with a key, shown with it, and gone with the next set', async () => {
      await as('PUT', `${path}?ttl=1h`, { body: 'x' })
      expect(await expiresIn()).toBeGreaterThan(3_500_000)
      expect(await expiresIn()).toBeLessThan(3_610_000)
      const { json } = await as('GET', '/v1/stores/default/keys?prefix=mortal')
      expect(json['keys']).toMatchObject([{ key: 'mortal', expires: expect.stringMatching(/Z$/) }])
      await as('PUT', path, { body: 'x' })
      expect(await expiresIn()).toBeUndefined()
      await as('PUT', `${path}?ttl=none`, { body: 'x' })
      expect(await expiresIn()).toBeUndefined()
    })

    test('is touched without a new revision', async () => {
      const revision = await put(path, 'x')
      const touched = await as('POST', `${path}/touch?ttl=30m`)
      expect(touched).toMatchObject({ status: 200, json: { expires: expect.stringMatching(/Z$/) } })
      const read = await as('GET', path)
      expect(read.headers).toMatchObject({ etag: `"${revision}"`, 'trivet-expires': touched.json['expires'] })
      expect((await as('POST', `${path}/touch?ttl=none`)).json).toEqual({})
      expect(await expiresIn()).toBeUndefined()
      expectProblem(await as('POST', '/v1/stores/default/keys/nowhere/touch?ttl=5s'), 404, 'no-such-key')
      const headers = { 'if-match': `"${revision + 1}"` }
      expectProblem(await as('POST', `${path}/touch?ttl=5s`, { headers }), 412, 'condition-failed')
    })

    test.each(['', '0s', '-1s', '1.5s', '5', '5 s', '3651d', '1w', 'NONE', '9999999999999ms'])(
      'is not %j',
      async (ttl) => {
        const query = `ttl=${encodeURIComponent(ttl)}`
        expectProblem(await as('PUT', `${path}?${query}`, { body: 'x' }), 400, 'invalid-request', 'ttl')
        expectProblem(await as('POST', `${path}/touch?${query}`), 400, 'invalid-request', 'ttl')
      },
    )

    test('has to be said to touch, and nothing else', async () => {
      expectProblem(await as('POST', `${path}/touch`), 400, 'invalid-request', 'ttl')
      const headers = { 'content-type': 'application/json' }
      const answer = await as('POST', `${path}/touch?ttl=5s`, { body: '{}', headers })
      expectProblem(answer, 400, 'invalid-request', 'body')
    })
  })
}
