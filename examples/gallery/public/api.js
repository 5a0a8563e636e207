// Requests to the server.

export const MAX_FILE_BYTES = 10 * 1024 * 1024
const TIMEOUT_MS = 60_000

// An error with a message for the visitor. `status` is 0 if the server did not answer.
export class Failure extends Error {
  constructor (status, message) {
    super(message)
    this.status = status
  }
}

async function request (method, path, { parameters = {}, body, type, signal } = {}) {
  const given = Object.entries(parameters).filter(([, value]) => value !== '' && value != null)
  const query = new URLSearchParams(given).toString()
  const limits = [AbortSignal.timeout(TIMEOUT_MS), signal].filter(Boolean)
  let response
  try {
    response = await fetch(`/api/${path}${query && `?${query}`}`, {
      method, body, headers: type ? { 'content-type': type } : {}, signal: AbortSignal.any(limits)
    })
  } catch (error) {
    if (signal?.aborted) throw error
    throw new Failure(0, 'The gallery does not answer. Check the connection, and try again.')
  }
  if (response.status === 204) return null
  const answer = await response.json().catch(() => null)
  if (response.ok && answer) return answer
  throw new Failure(response.status, answer?.error?.message ?? 'The gallery returned an unexpected answer. Try again.')
}

export const get = (path, parameters, signal) => request('GET', path, { parameters, signal })
export const post = (path) => request('POST', path)
export const put = (path, value) => request('PUT', path, { body: JSON.stringify(value), type: 'application/json' })
export const remove = (path) => request('DELETE', path)

// Sends the bytes of a file. The server derives the type from the bytes.
export async function send (path, file, parameters, signal) {
  if (file.size > MAX_FILE_BYTES) throw new Failure(413, 'This file is too large. A photo can have at most 10 MB.')
  return request('POST', path, { parameters, body: file, type: 'application/octet-stream', signal })
}
