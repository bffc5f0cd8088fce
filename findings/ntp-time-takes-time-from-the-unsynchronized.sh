#!/bin/bash
# npm ntp-time 2.1.1 and ntp-time-sync 0.5.0: what they take for the time.
#
# A server that has just been started answers leap 3 and stratum 0 (RFC 5905 section 7.3): do
# not use this time. ntp-time resolves to it all the same, an hour off here, and says
# nothing of it; ntp-time-sync refuses it. For such clients a server does better to be silent
# until it has the time than to say that it has none.
#
# Needs node and npm. Seen: the outcome of one request to such a server on loopback.
source "$(dirname "$(readlink -f "$0")")/common.sh"
npm init -y >/dev/null 2>&1
npm install --silent --no-audit --no-fund ntp-time@2.1.1 ntp-time-sync@0.5.0 >npm.log 2>&1 || { cat npm.log; exit 1; }
cat > try.js <<'JS'
const dgram = require('dgram')
const server = dgram.createSocket('udp4')
const timestamp = (ms) => {
  const b = Buffer.alloc(8), t = ms / 1000 + 2208988800
  b.writeUInt32BE(Math.floor(t), 0); b.writeUInt32BE(Math.floor((t % 1) * 2 ** 32), 4)
  return b
}
server.on('message', (m, from) => {
  const r = Buffer.alloc(48), now = Date.now() + 3600e3
  r[0] = 0xc0 | (m[0] & 0x38) | 4
  r[2] = 6; r[3] = 0xec
  m.copy(r, 24, 40, 48)
  timestamp(now).copy(r, 32); timestamp(now).copy(r, 40)
  server.send(r, from.port, from.address)
})
server.bind(0, '127.0.0.1', async () => {
  const port = server.address().port
  const outcome = async (name, ask) => {
    try { console.log(name, (await ask()) > 3000e3 ? 'an hour off' : 'no') } catch (e) { console.log(name, 'refused') }
  }
  await outcome('ntp-time', async () => {
    const { Client } = require('ntp-time')
    return (await new Client('127.0.0.1', port, { timeout: 3000 }).syncTime()).time.getTime() - Date.now()
  })
  await outcome('ntp-time-sync', async () => {
    const { NtpTimeSync } = require('ntp-time-sync')
    const sync = new NtpTimeSync({ servers: ['127.0.0.1:' + port], sampleCount: 1, replyTimeout: 1000 })
    return (await sync.getTime(true)).offset
  })
  server.close(); process.exit(0)
})
JS
timeout 60 node try.js > seen 2>err || true
cat seen
expect "leap 3, stratum 0, an hour off" "ntp-time an hour off,ntp-time-sync refused" "$(paste -sd, seen)"
