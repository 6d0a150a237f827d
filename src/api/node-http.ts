// Node's HTTP, without what nobody here uses.
//
// Importing `node:http` reads all that it exports. One of that is `WebSocket`, and behind it lies the whole of undici: 6 MB of
// memory in every node. So it is asked for by name, and imported for its types alone.

export const http = process.getBuiltinModule('node:http')
