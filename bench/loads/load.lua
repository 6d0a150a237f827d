-- What wrk does: sends one of the prepared requests after the other, drawn at random, and tells the outcome as JSON.
--
-- The requests lie ready as bytes in a file, so that the generator spends nothing on making them: each its length in ten
-- digits and a newline, then itself.

local addresses = {}
local threads = 0

local function lookup()
  for host, port in os.getenv("BENCH_NODES"):gmatch("([^:,]+):(%d+)") do
    addresses[#addresses + 1] = wrk.lookup(host, port)[1]
  end
end

function setup(thread)
  if #addresses == 0 then lookup() end
  threads = threads + 1
  thread.addr = addresses[(threads - 1) % #addresses + 1]
  thread:set("number", threads)
end

local requests = {}

function init()
  math.randomseed(tonumber(os.getenv("BENCH_SEED")) + number)
  local file = io.open(os.getenv("BENCH_REQUESTS"), "rb")
  while true do
    local length = file:read(11)
    if length == nil then break end
    requests[#requests + 1] = file:read(tonumber(length))
  end
  file:close()
end

function request()
  return requests[math.random(#requests)]
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '\n{"requests":%d,"seconds":%f,"p50":%f,"p99":%f,"p999":%f,"failed":%d}\n',
    summary.requests, summary.duration / 1e6,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3, latency:percentile(99.9) / 1e3,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout
  ))
end
