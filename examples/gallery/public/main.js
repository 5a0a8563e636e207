// The state of the page is in its address: /?q=…&label=…&type=…&name=…&like=ID#VIEW. So the Back button works.
import * as api from './api.js'
import * as details from './details.js'
import { $, announce, clearError, count, showError } from './elements.js'
import * as grid from './grid.js'
import * as panels from './panels.js'
import * as queue from './queue.js'
import * as upload from './upload.js'

const VIEWS = ['photos', 'duplicates', 'labels', 'failures']
const TYPING_MS = 300

const form = $('search')
let image = null
let running

const parameters = () => Object.fromEntries(new URLSearchParams(location.search))
const currentView = () => VIEWS.find((view) => `#${view}` === location.hash) ?? 'photos'

function filters () {
  const { label, type, name } = parameters()
  return { label, type, name }
}

function setImage (file) {
  const preview = $('query-image')
  if (preview.src) URL.revokeObjectURL(preview.src)
  preview.removeAttribute('src')
  preview.hidden = !file
  if (file) preview.src = URL.createObjectURL(file)
  image = file
}

// Returns the photos for the address, the title, and the id where the next page begins.
async function find (signal) {
  const { q, like } = parameters()
  if (image) {
    const { photos } = await api.send('search/image', image, filters(), signal)
    return { photos, next: null, title: `Photos like ${image.name}` }
  }
  if (like) {
    const { photo, photos } = await api.get(`photos/${encodeURIComponent(like)}/similar`, filters(), signal)
    const preview = $('query-image')
    preview.src = `/photos/${photo.id}`
    preview.hidden = false
    return { photos, next: null, title: `More like ${photo.name}` }
  }
  if (q) {
    const { photos } = await api.get('search', { q, ...filters() }, signal)
    return { photos, next: null, title: `Photos of “${q}”` }
  }
  const { photos, next } = await api.get('photos', filters(), signal)
  return { photos, next, title: Object.values(filters()).some(Boolean) ? 'Filtered photos' : 'All photos' }
}

const isSearch = () => Boolean(image || parameters().q || parameters().like)
const isNarrowed = () => isSearch() || Object.values(filters()).some(Boolean)

function describe (photos) {
  if (!isSearch() || photos.length === 0) return ''
  const close = photos.filter((photo) => photo.relevance >= grid.RELEVANT).length
  return close ? `${close} close to these words` : 'most similar first'
}

async function showPhotos () {
  running?.abort()
  running = new AbortController()
  const { signal } = running
  const { q = '', name = '', label = '', type = '' } = parameters()
  if (document.activeElement !== form.q) form.q.value = q
  if (document.activeElement !== form.elements.name) form.elements.name.value = name
  queue.choose($('filter-label'), label)
  queue.choose($('filter-type'), type)
  $('clear').hidden = !isNarrowed()
  if (!image) setImage(null)
  $('grid').setAttribute('aria-busy', 'true')
  try {
    const { photos, next, title } = await find(signal)
    const emptyText = isNarrowed() ? 'No photo matches.' : 'There are no photos yet. Drop some images onto this page.'
    grid.show(photos, next, emptyText)
    $('result-title').textContent = title
    $('result-note').textContent = describe(photos)
    document.title = isNarrowed() ? `${title} · Gallery` : 'Gallery'
    clearError()
    announce(photos.length === 0 ? emptyText : `${title}: ${next ? 'more than ' : ''}${count(photos.length, 'result')}`)
  } catch (error) {
    if (signal.aborted) return
    setImage(null)
    showError(error)
  } finally {
    if (!signal.aborted) $('grid').removeAttribute('aria-busy')
  }
}

function showView () {
  const view = currentView()
  for (const name of VIEWS) $(name).hidden = name !== view
  for (const link of document.querySelectorAll('[data-view]')) {
    if (link.dataset.view === view) link.setAttribute('aria-current', 'page')
    else link.removeAttribute('aria-current')
  }
  return view === 'photos' ? showPhotos() : panels.show(view)
}

// Goes to another state. Empty values are left out of the address.
function go (changes, { replace = false } = {}) {
  const given = Object.entries({ ...parameters(), ...changes }).filter(([, value]) => value)
  const query = new URLSearchParams(given).toString()
  history[replace ? 'replaceState' : 'pushState'](null, '', `/${query && `?${query}`}#photos`)
  return showView()
}

form.addEventListener('submit', (event) => {
  event.preventDefault()
  setImage(null)
  go({ q: form.q.value.trim(), name: form.elements.name.value.trim(), like: '' })
})
for (const select of [$('filter-label'), $('filter-type')]) {
  select.addEventListener('change', () => go({ [select.name]: select.value }))
}
let typing
form.elements.name.addEventListener('input', () => {
  clearTimeout(typing)
  typing = setTimeout(() => go({ name: form.elements.name.value.trim() }, { replace: true }), TYPING_MS)
})
$('clear').addEventListener('click', () => {
  form.reset()
  setImage(null)
  go({ q: '', like: '', label: '', type: '', name: '' })
  form.q.focus()
})
$('more').addEventListener('click', () => grid.more((before) => api.get('photos', { ...filters(), before })).catch(showError))

async function similar (photo) {
  setImage(null)
  form.q.value = ''
  await go({ like: photo.id, q: '' })
  scrollTo({ top: 0 })
  $('result-title').focus({ preventScroll: true })
}

grid.setHandlers({ open: details.open, similar })
details.setHandlers({
  similar,
  removed: (photo) => {
    announce(`${photo.name} removed`)
    showView()
    queue.refresh()
  }
})
panels.setHandlers({
  removed: () => queue.refresh(),
  labeled: () => queue.refresh(),
  filter: (filter) => go({ q: '', like: '', type: '', name: '', ...filter })
})
upload.setHandlers({
  finished: () => {
    queue.refresh()
    if (currentView() !== 'photos' || !isSearch()) showView()
  },
  searchImage: async (file) => {
    setImage(file)
    form.q.value = ''
    await go({ q: '', like: '' })
    $('result-title').focus({ preventScroll: true })
  }
})
queue.setHandlers({
  // Returns whether cards of this page still wait for their embedding or label.
  changed: (state, changed) => {
    panels.update(currentView(), state, changed)
    if (!grid.hasWaiting() || isSearch()) return false
    api.get('photos', filters()).then(({ photos }) => grid.update(photos), () => {})
    return state.embedded + state.failed < state.photos || state.labels.reduce((sum, { photos }) => sum + photos, 0) < state.embedded
  }
})

addEventListener('popstate', () => {
  setImage(null)
  showView()
})
for (const link of document.querySelectorAll('[data-view]')) {
  link.addEventListener('click', (event) => {
    event.preventDefault()
    history.pushState(null, '', `${location.pathname}${location.search}#${link.dataset.view}`)
    showView()
  })
}
document.querySelector('.skip').addEventListener('click', (event) => {
  event.preventDefault()
  $('content').focus()
})
// On a phone, the photos are more important than the filters.
$('filters').open = innerWidth > 640 || Object.values(filters()).some(Boolean)
queue.refresh()
showView()
