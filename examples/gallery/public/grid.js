// The grid of photos, and its pages.
import { $, announce, count, element } from './elements.js'

const PAGE = 48
// Photos below this relevance are often unrelated to the words: docs/guides/relevance-and-paging.md explains the number.
export const RELEVANT = 2.5
// A narrower image would be blurred if it filled its card.
const MIN_WIDTH = 200

let rest = []
let older = null
let handlers = {}
let shown = 0
let parted = false
const waiting = new Map()

export function setHandlers (given) { handlers = given }

function describe (photo, chip) {
  chip.textContent = photo.label ?? (photo.embedded ? 'no label yet' : 'not searchable')
  chip.classList.toggle('waiting', !photo.label)
  return chip
}

// A list item with the image, the name and the label. The buttons are placed after the label.
export function card (photo, chip = describe(photo, element('span', { className: 'chip' })), ...buttons) {
  const image = element('img', { src: `/photos/${photo.id}`, alt: '', loading: 'lazy', decoding: 'async', width: 160, height: 160 })
  const open = element('button', { type: 'button', className: `photo ${photo.width < MIN_WIDTH ? 'little' : ''}` }, image)
  open.setAttribute('aria-label', `Details of ${photo.name}`)
  open.addEventListener('click', () => handlers.open(photo))
  return element('li', { className: 'card' }, open,
    element('p', { className: 'name', title: photo.name }, photo.name),
    element('p', { className: 'foot' }, chip, ...buttons))
}

function resultCard (photo) {
  const chip = describe(photo, element('span', { className: 'chip' }))
  const button = element('button', { type: 'button', className: 'quiet', title: 'More like this', hidden: !photo.embedded }, 'Similar')
  button.setAttribute('aria-label', `More like ${photo.name}`)
  button.addEventListener('click', () => handlers.similar(photo))
  if (!photo.label) waiting.set(photo.id, { photo, chip, button })
  return card(photo, chip, button)
}

export const hasWaiting = () => waiting.size > 0

// Updates the cards whose photos were embedded or labeled in the meantime.
export function update (photos) {
  for (const fresh of photos) {
    const item = waiting.get(fresh.id)
    if (!item) continue
    Object.assign(item.photo, fresh)
    describe(fresh, item.chip)
    item.button.hidden = !fresh.embedded
    if (fresh.label) waiting.delete(fresh.id)
  }
}

function append (photos) {
  const grid = $('grid')
  let first
  for (const photo of photos) {
    if (!parted && shown > 0 && photo.relevance != null && photo.relevance < RELEVANT) {
      grid.append(element('li', { className: 'divider' }, 'Less similar photos'))
    }
    parted ||= photo.relevance != null && photo.relevance < RELEVANT
    const item = resultCard(photo)
    first ??= item
    grid.append(item)
    shown++
  }
  return first
}

function showMore () {
  $('more').hidden = rest.length === 0 && older == null
  $('more').textContent = rest.length ? `Show more (${rest.length} left)` : 'Show more'
}

// Shows the first page. `next` is the id before which the server continues, or null if `photos` has all rows.
export function show (photos, next, emptyText) {
  $('grid').replaceChildren()
  waiting.clear()
  shown = 0
  parted = false
  rest = photos.slice(PAGE)
  older = next
  append(photos.slice(0, PAGE))
  $('empty').hidden = photos.length > 0
  $('empty').textContent = emptyText
  showMore()
}

export async function more (fetchOlder) {
  let photos = rest.slice(0, PAGE)
  rest = rest.slice(PAGE)
  if (photos.length === 0 && older != null) {
    const page = await fetchOlder(older)
    photos = page.photos
    older = page.next
  }
  const first = append(photos)
  showMore()
  announce(`${count(photos.length, 'more photo')} shown`)
  // The button moves down, so the keyboard continues at the first new photo.
  first?.querySelector('button').focus()
}
