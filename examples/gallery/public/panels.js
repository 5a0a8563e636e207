// The views for duplicates, labels and failures.
import * as api from './api.js'
import { $, announce, bytes, confirmRemoval, count, element, moment, showError } from './elements.js'
import { card } from './grid.js'
import * as queue from './queue.js'

let handlers = {}
let edited = false
let listed = 0
export function setHandlers (given) { handlers = given }

function removeButton (photo, done) {
  const button = element('button', { type: 'button', className: 'quiet danger' }, 'Remove')
  button.setAttribute('aria-label', `Remove ${photo.name}`)
  button.addEventListener('click', async () => {
    if (!await confirmRemoval(photo.name)) return
    try {
      await api.remove(`photos/${photo.id}`)
      announce(`${photo.name} removed`)
      done(photo)
    } catch (error) {
      showError(error)
    }
  })
  return button
}

async function showDuplicates () {
  const { groups } = await api.get('duplicates', { distance: $('strictness').value })
  $('groups').replaceChildren(...groups.map((photos, index) => {
    const title = element('h2', { id: `group-${index}` }, `${count(photos.length, 'photo')}`)
    const facts = (photo) => element('span', { className: 'chip' }, `${photo.width} × ${photo.height}, ${bytes(photo.bytes)}`)
    const removed = () => {
      handlers.removed()
      showDuplicates().catch(showError)
      $('duplicates-title').focus()
    }
    const list = element('ul', { className: 'grid' }, ...photos.map((photo) => card(photo, facts(photo), removeButton(photo, removed))))
    return element('section', { className: 'group', 'aria-labelledby': `group-${index}` }, title, list)
  }))
  const text = groups.length ? `${count(groups.length, 'group')} found` : 'No duplicates found.'
  if (!groups.length) $('groups').append(element('p', { className: 'empty' }, text))
  announce(text)
}

function showCounts () {
  const counts = queue.labels()
  const most = Math.max(1, ...counts.map((label) => label.photos))
  $('label-counts').replaceChildren(...counts.map(({ name, photos }) => {
    const link = element('a', { href: `/?label=${encodeURIComponent(name)}` }, name)
    link.addEventListener('click', (event) => {
      event.preventDefault()
      handlers.filter({ label: name })
    })
    const bar = element('meter', { min: 0, max: most, value: photos, 'aria-label': `${name}: ${count(photos, 'photo')}` })
    return element('li', {}, link, bar, element('span', {}, photos.toLocaleString('en')))
  }))
}

async function showLabels () {
  await queue.refresh()
  // A visitor can type before the answer arrives.
  if (!edited) $('label-list').value = queue.labels().map((label) => label.name).join(', ')
  showCounts()
}

$('label-list').addEventListener('input', () => { edited = true })

$('label-form').addEventListener('submit', async (event) => {
  event.preventDefault()
  const labels = [...new Set($('label-list').value.split(/[,\n]/).map((name) => name.trim()).filter(Boolean))]
  $('label-result').textContent = 'Labeling …'
  try {
    const { labeled } = await api.put('labels', { labels })
    edited = false
    await showLabels()
    $('label-result').textContent = `${count(labeled, 'photo')} labeled.`
    handlers.labeled()
  } catch (error) {
    $('label-result').textContent = error.status === 400 ? 'Enter 2 to 30 labels with at most 40 characters each.' : error.message
  }
})

async function showFailures () {
  const { failures } = await api.get('failures')
  const list = failures.filter((failure) => failure.id)
  const whole = failures.find((failure) => !failure.id)
  listed = failures.length
  $('failures-text').textContent = whole?.reason ??
    (list.length ? 'These photos were stored, but could not be embedded. Searches do not find them.' : 'No photo has failed.')
  $('retry').hidden = failures.length === 0
  $('failure-list').replaceChildren(...list.map((failure) => {
    const removed = () => {
      handlers.removed()
      showFailures().catch(showError)
      $('failures-title').focus()
    }
    return element('li', {},
      element('div', {}, element('strong', {}, failure.name), element('p', {}, failure.reason),
        element('p', { className: 'note' }, `${count(failure.attempts, 'attempt')}, last on ${moment(failure.lastFailedAt)} · SQLSTATE ${failure.sqlstate}`)),
      removeButton(failure, removed))
  }))
}

$('retry').addEventListener('click', async () => {
  try {
    const { cleared } = await api.post('failures/retry')
    announce(`${count(cleared, 'photo')} queued again`)
    await showFailures()
    queue.refresh()
    $('failures-title').focus()
  } catch (error) {
    showError(error)
  }
})
$('strictness').addEventListener('change', () => showDuplicates().catch(showError))

const VIEWS = { duplicates: showDuplicates, labels: showLabels, failures: showFailures }
export const show = (view) => VIEWS[view]?.().catch(showError)

// Shows the present state of the queue in a view that depends on it. A list that has the focus stays as it is.
export function update (view, state, changed) {
  const lists = { duplicates: 'groups', failures: 'failure-list' }
  const stale = changed || (view === 'failures' && listed !== state.failed)
  if (stale && view in lists && !$(lists[view]).contains(document.activeElement)) show(view)
}
