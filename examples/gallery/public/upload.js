// Uploads: the file input, drag and drop, and the list of results.
import * as api from './api.js'
import { $, announce, count, element } from './elements.js'

const MAX_FILES = 100
const PARALLEL = 2
const RETRIES = 3
const RETRY_MS = 1500

const waiting = []
let running = 0
let added = 0
let rejected = 0
let handlers = {}

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms))

// The server is busy for a moment, so the page repeats such a request.
async function sendPatiently (file) {
  for (let attempt = 1; ; attempt++) {
    try {
      return await api.send('photos', file, { name: file.name.replace(/\.(jpe?g|png|webp|gif|bmp)$/i, '') || file.name })
    } catch (error) {
      if (error.status !== 503 || attempt > RETRIES) throw error
      await pause(RETRY_MS)
    }
  }
}

async function upload ({ file, item, state }) {
  state.replaceChildren('sending …')
  item.className = 'sending'
  try {
    await sendPatiently(file)
    added++
    item.className = 'done'
    state.replaceChildren('added')
  } catch (error) {
    rejected++
    item.className = 'rejected'
    state.replaceChildren(error.message ?? 'This file could not be read.')
    if (error.status === 0 || error.status >= 500) {
      const again = element('button', { type: 'button', className: 'quiet' }, 'Try again')
      again.setAttribute('aria-label', `Upload ${file.name} again`)
      again.addEventListener('click', () => {
        rejected--
        waiting.push({ file, item, state })
        work()
      })
      state.append(' ', again)
    }
  }
}

function summarize () {
  const parts = [added && `${count(added, 'photo')} added`, rejected && `${count(rejected, 'file')} not added`].filter(Boolean)
  const left = waiting.length + running
  $('uploads-title').textContent = left ? `Uploading: ${left} left` : parts.join(', ')
  if (!left) announce(parts.join(', '))
}

function work () {
  while (running < PARALLEL && waiting.length > 0) {
    running++
    upload(waiting.shift()).finally(() => {
      running--
      work()
      if (running === 0) handlers.finished()
    })
  }
  summarize()
}

export function add (files) {
  if (running === 0) {
    added = rejected = 0
    $('uploads-list').replaceChildren()
  }
  const accepted = [...files].slice(0, MAX_FILES)
  for (const file of accepted) {
    const state = element('span', { className: 'state' }, 'waiting')
    const item = element('li', {}, element('span', { className: 'file-name' }, file.name), state)
    $('uploads-list').append(item)
    waiting.push({ file, item, state })
  }
  const left = files.length - accepted.length
  if (left > 0) {
    $('uploads-list').prepend(element('li', { className: 'rejected' }, `${count(left, 'file')} left out: at most ${MAX_FILES} files at a time.`))
  }
  $('uploads').hidden = false
  work()
}

export function setHandlers (given) { handlers = given }

$('uploads-close').addEventListener('click', () => {
  $('uploads').hidden = true
  $('content').focus()
})

function whenChosen (input, use) {
  input.addEventListener('change', () => {
    const files = [...input.files]
    // The same file can be chosen again.
    input.value = ''
    if (files.length) use(files)
  })
}
whenChosen($('upload-input'), add)
whenChosen($('image-input'), ([file]) => handlers.searchImage(file))

// While files are over the page, the overlay shows two places: one adds the files, the other searches by the first file.
const overlay = $('drop')
let depth = 0
const hasFiles = (event) => event.dataTransfer?.types.includes('Files')

function setOverlay (visible) {
  overlay.hidden = !visible
  if (!visible) depth = 0
}

addEventListener('dragenter', (event) => {
  if (!hasFiles(event)) return
  event.preventDefault()
  depth++
  setOverlay(true)
})
addEventListener('dragover', (event) => {
  if (!hasFiles(event)) return
  event.preventDefault()
  overlay.classList.toggle('searching', event.target.classList?.contains('drop-search'))
})
addEventListener('dragleave', (event) => {
  if (hasFiles(event) && --depth <= 0) setOverlay(false)
})
addEventListener('drop', (event) => {
  if (!hasFiles(event)) return
  event.preventDefault()
  const files = [...event.dataTransfer.files]
  const search = event.target.classList?.contains('drop-search') || event.target.closest?.('#search')
  setOverlay(false)
  if (search && files.length) handlers.searchImage(files[0])
  else add(files)
})
