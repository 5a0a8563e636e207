// The dialog with one photo: its facts, and the probability of each label.
import * as api from './api.js'
import { $, bytes, confirmRemoval, element, moment, showError } from './elements.js'

const MAX_LABELS = 5
const dialog = $('details')
let current
let handlers = {}

function bar ({ label, probability }) {
  const percent = Math.round(probability * 100)
  return [
    element('dt', {}, label),
    element('dd', {}, element('meter', { min: 0, max: 1, value: probability, 'aria-label': `${label}: ${percent} %` }), ` ${percent} %`)
  ]
}

export async function open (photo) {
  current = photo
  $('details-image').src = `/photos/${photo.id}`
  $('details-image').alt = photo.name
  $('details-name').textContent = photo.name
  const added = photo.addedAt ? `added ${moment(photo.addedAt)}` : null
  $('details-facts').textContent = [`${photo.width} × ${photo.height} pixels`, photo.type.replace('image/', '').toUpperCase(), bytes(photo.bytes), added].filter(Boolean).join(' · ')
  $('details-similar').disabled = !photo.embedded
  const list = $('details-labels')
  list.replaceChildren(element('dt', {}, photo.embedded ? '…' : 'This photo is not searchable.'))
  dialog.showModal()
  if (!photo.embedded) return
  try {
    const { labels } = await api.get(`photos/${photo.id}/labels`)
    if (current === photo) list.replaceChildren(...labels.filter(({ probability }) => probability >= 0.005).slice(0, MAX_LABELS).flatMap(bar))
  } catch (error) {
    if (current === photo) list.replaceChildren(element('dt', {}, error.message))
  }
}

export function setHandlers (given) { handlers = given }

// A dialog has no own click on its backdrop: the target of such a click is the dialog.
dialog.addEventListener('click', (event) => { if (event.target === dialog) dialog.close() })

$('details-similar').addEventListener('click', () => {
  dialog.close()
  handlers.similar(current)
})

$('details-remove').addEventListener('click', async () => {
  const photo = current
  if (!await confirmRemoval(photo.name)) return
  try {
    await api.remove(`photos/${photo.id}`)
    dialog.close()
    handlers.removed(photo)
  } catch (error) {
    dialog.close()
    showError(error)
  }
})
