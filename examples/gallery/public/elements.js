// Creates elements. Texts become text nodes, so a name that contains HTML is shown as it is.

export const $ = (id) => document.getElementById(id)

export function element (tag, properties = {}, ...children) {
  const node = document.createElement(tag)
  for (const [name, value] of Object.entries(properties)) {
    if (name in node) node[name] = value
    else node.setAttribute(name, value)
  }
  node.append(...children.filter((child) => child != null))
  return node
}

const live = $('live')

// Lets a screen reader read a message.
export function announce (message) {
  live.textContent = ''
  setTimeout(() => { live.textContent = message }, 50)
}

let hiding
export function showError (error) {
  if (error.name === 'AbortError') return
  const banner = $('banner')
  banner.textContent = error.message
  banner.hidden = false
  clearTimeout(hiding)
  hiding = setTimeout(clearError, 15_000)
}

export function clearError () {
  $('banner').hidden = true
}

export const count = (number, noun) => `${number.toLocaleString('en')} ${noun}${number === 1 ? '' : 's'}`

export const moment = (time) => new Date(time).toLocaleString('en', { dateStyle: 'medium', timeStyle: 'short' })

export function bytes (number) {
  return number < 1024 * 1024 ? `${Math.max(1, Math.round(number / 1024))} kB` : `${(number / 1024 / 1024).toFixed(1)} MB`
}

// Asks before a photo is removed. Resolves to true or false.
export function confirmRemoval (name) {
  const dialog = $('confirm')
  $('confirm-text').textContent = `Remove “${name}” from the gallery?`
  dialog.returnValue = ''
  dialog.showModal()
  return new Promise((resolve) => {
    dialog.addEventListener('close', () => resolve(dialog.returnValue === 'remove'), { once: true })
  })
}
