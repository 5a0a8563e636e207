// The state of the queue: polls the server, and shows the progress, the filters and the number of failures.
import * as api from './api.js'
import { $, announce, count, element } from './elements.js'

const BUSY_MS = 1000
const IDLE_MS = 8000

let last = {}
let timer
let handlers = {}

export const setHandlers = (given) => { handlers = given }
export const labels = () => last.labels ?? []

function options (select, values) {
  const chosen = select.dataset.wanted ?? select.value
  const known = values.map(([value, text]) => element('option', { value }, text))
  // A chosen value stays, also if no photo has it any more.
  if (chosen && !values.some(([value]) => value === chosen)) known.push(element('option', { value: chosen }, chosen))
  const key = JSON.stringify(values)
  if (select.dataset.key === key && select.value === chosen) return
  select.dataset.key = key
  select.replaceChildren(element('option', { value: '' }, 'any'), ...known)
  select.value = chosen
}

// Lets the select have a value that its list may not have yet.
export function choose (select, value) {
  select.dataset.wanted = value
  if (![...select.options].some((option) => option.value === value)) select.append(element('option', { value }, value))
  select.value = value
}

function describe (state) {
  if (state.modelState !== 'ok') return `${count(state.photos, 'photo')}. The model “${state.model}” is not available: nothing can be searched or labeled.`
  if (state.pending > 0) {
    const speed = state.rate ? `, ${Math.round(state.rate)} per second` : ''
    const left = state.secondsLeft ? `, about ${Math.ceil(state.secondsLeft)} s left` : ''
    return `Embedding: ${count(state.pending, 'photo')} to do${speed}${left}`
  }
  if (state.photos === 0) return 'The gallery is empty.'
  const failed = state.failed ? `, ${state.failed.toLocaleString('en')} failed` : ''
  return `${count(state.photos, 'photo')}, ${state.embedded === state.photos ? 'all' : state.embedded.toLocaleString('en')} searchable${failed} · model “${state.model}”`
}

function show (state) {
  $('queue-text').textContent = describe(state)
  $('queue-text').classList.toggle('broken', state.modelState !== 'ok')
  const bar = $('queue-progress')
  bar.hidden = state.pending === 0
  bar.max = Math.max(1, state.photos)
  bar.value = state.embedded
  const failed = $('failure-count')
  failed.hidden = state.failed === 0
  failed.textContent = state.failed || ''
  options($('filter-label'), state.labels.map(({ name, photos }) => [name, `${name} (${photos})`]))
  options($('filter-type'), state.types.map(({ type, photos }) => [type, `${type.replace('image/', '').toUpperCase()} (${photos})`]))
  // Only the start and the end are announced: a screen reader does not read each step.
  if (last.pending === 0 && state.pending > 0) announce(`Embedding ${count(state.pending, 'photo')}`)
  if (last.pending > 0 && state.pending === 0) announce(`All photos are embedded${state.failed ? `, ${state.failed} failed` : ''}`)
}

async function poll () {
  let busy = true
  try {
    const state = await api.get('status')
    show(state)
    const changed = ['photos', 'embedded', 'failed'].some((name) => last[name] !== state[name])
    last = state
    busy = state.pending > 0 || handlers.changed(state, changed)
  } catch (error) {
    $('queue-text').textContent = error.message
    $('queue-text').classList.add('broken')
  }
  timer = setTimeout(poll, document.hidden ? 4 * IDLE_MS : busy ? BUSY_MS : IDLE_MS)
}

// Reads the state now, for example after an upload.
export function refresh () {
  clearTimeout(timer)
  return poll()
}

addEventListener('visibilitychange', () => { if (!document.hidden) refresh() })
