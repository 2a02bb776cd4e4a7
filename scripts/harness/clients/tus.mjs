// Uploads one file with tus-js-client, as a page or an app would, and prints a line
// of JSON for what happened. Settings come as JSON in the first argument:
// endpoint, file, token, path, chunk (bytes, 0: one request), sha256 (optional),
// protocol (optional: tus-v1, ietf-draft-03, ietf-draft-05).
import fs from 'node:fs'
import * as tus from 'tus-js-client'

const set = JSON.parse(process.argv[2])
let retries = 0
const headers = { Authorization: `Bearer ${set.token}` }
const metadata = { path: set.path, source: 'other', mtime: '1582977600' }
if (set.sha256) metadata.sha256 = set.sha256

const upload = new tus.Upload(fs.createReadStream(set.file), {
  endpoint: set.endpoint,
  uploadSize: fs.statSync(set.file).size,
  chunkSize: set.chunk || Infinity,
  protocol: set.protocol || 'tus-v1',
  retryDelays: [100, 300, 600, 1000, 2000, 4000, 8000],
  headers,
  metadata,
  onShouldRetry: (error, attempt, options) => {
    retries++
    const status = error.originalResponse?.getStatus() ?? 0
    return status < 400 || status >= 500 || status === 409 || status === 423
  },
  onAfterResponse: (request, response) => {
    const stored = response.getHeader('Yunbox-Sha256')
    if (stored) set.stored = stored
  },
  onError: (error) => {
    console.log(JSON.stringify({ ok: false, retries, status: error.originalResponse?.getStatus() ?? 0, body: error.originalResponse?.getBody() ?? '', error: String(error).slice(0, 500) }))
    process.exit(1)
  },
  onSuccess: () => console.log(JSON.stringify({ ok: true, retries, url: upload.url, sha256: set.stored ?? '' })),
})
upload.start()
