// Write a value, read it back, list what is there, and clean up. While `npm start` runs: npx node examples/hello.ts

import { connectHere } from './connection.ts'

await using client = await connectHere()
const store = await client.open('default')

const { revision, created } = await store.set('examples/hello', 'Hello, world')
console.log(`${created ? 'Created' : 'Overwrote'} examples/hello at revision ${revision}`)

// Whichever node answers, this read sees the write above: reads are linearizable unless asked otherwise.
console.log(`It says: ${await store.getText('examples/hello')}`)

await store.setJson('examples/point', { x: 3, y: 4 })
const point = await store.getJson<{ x: number; y: number }>('examples/point')
console.log(`The point is ${point?.x}, ${point?.y}`)

for await (const key of store.getKeys({ prefix: 'examples/' })) {
  console.log(`Found ${key}`)
  await store.delete(key)
}
console.log(`A missing key is ${await store.get('examples/hello')}`)
