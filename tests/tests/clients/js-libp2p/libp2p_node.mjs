// A node of js-libp2p; it goes on until it is killed.
//
//     node libp2p_node.mjs tls|noise [serve] [reserve ADDRESS] [ping ADDRESS]...
//
// It serves as a relay, keeps a place at one, and pings. What happens is printed, one JSON object a line.

import { noise } from '@chainsafe/libp2p-noise'
import { yamux } from '@chainsafe/libp2p-yamux'
import { circuitRelayServer, circuitRelayTransport } from '@libp2p/circuit-relay-v2'
import { dcutr } from '@libp2p/dcutr'
import { identify } from '@libp2p/identify'
import { ping } from '@libp2p/ping'
import { tcp } from '@libp2p/tcp'
import { tls } from '@libp2p/tls'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'

const [secured, ...wishes] = process.argv.slice(2)
const say = (event, fields) => console.log(JSON.stringify({ event, ...fields }))
const values = (wish) => wishes.filter((_, index) => wishes[index - 1] === wish)

const node = await createLibp2p({
  start: false,
  addresses: {
    listen: ['/ip4/127.0.0.1/tcp/0', ...values('reserve').map((address) => `${address}/p2p-circuit`)]
  },
  transports: [tcp(), circuitRelayTransport()],
  connectionEncrypters: [secured === 'tls' ? tls() : noise()],
  streamMuxers: [yamux()],
  // Loopback is dialled.
  connectionGater: { denyDialMultiaddr: () => false },
  services: {
    identify: identify(),
    ping: ping({ runOnLimitedConnection: true }),
    dcutr: dcutr(),
    ...(wishes.includes('serve') ? { relay: circuitRelayServer() } : {})
  }
})

node.addEventListener('peer:identify', ({ detail }) => {
  const addresses = detail.listenAddrs.map(String).sort()
  say('identified', { peer: detail.peerId.toString(), agent: detail.agentVersion, protocols: detail.protocols, addresses })
})
node.addEventListener('connection:open', ({ detail }) => {
  const { direction, encryption, multiplexer } = detail
  const address = detail.remoteAddr.toString()
  say('connected', { peer: detail.remotePeer.toString(), address, direction, encryption, multiplexer })
})

await node.start()
const address = node.getMultiaddrs().map(String).find((address) => !address.includes('p2p-circuit'))
say('started', { peer: node.peerId.toString(), address })
for (const wish of values('ping')) {
  say('pinged', { address: wish, ms: await node.services.ping.ping(multiaddr(wish)) })
}
