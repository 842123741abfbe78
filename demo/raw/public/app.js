const h = React.createElement
const { useState, useEffect } = React
var currentUser = null
var oldLayout = false

function go(e, to) {
  e.preventDefault()
  history.pushState({}, '', to)
  window.dispatchEvent(new Event('navigate'))
}

function Link(props) {
  return h('a', { href: props.to, onClick: (e) => go(e, props.to) }, props.children)
}

function Nav() {
  return h('div', { className: 'nav' },
    h(Link, { to: '/' }, 'Home'), h(Link, { to: '/orders' }, 'Orders'), h(Link, { to: '/licences' }, 'Licences'),
    h(Link, { to: '/users' }, 'Users'), h(Link, { to: '/estimate' }, 'Estimate'), h(Link, { to: '/checkout' }, 'Buy'), h(Link, { to: '/login' }, 'Log in'))
}

// comes a bit later than the rest, so it does not disturb
function Banner() {
  const [show, setShow] = useState(false)
  useEffect(() => { setTimeout(() => setShow(true), 800) }, [])
  if (!show) return null
  return h('div', { className: 'banner' }, 'Season 2026 is open! Remember to buy your licence before the first race of the year.', h('br'), 'Payment by card only.')
}

function Footer() {
  return h('div', { className: 'footer' }, h('h3', null, 'Contact'), h('p', null, 'NMK Fjellbygda, Banevegen 1'), h('p', null, 'Open on Tuesdays, 18 to 20'),
    h('p', null, 'Questions about licences are answered by the board. Please be patient, we do this in our spare time.'))
}

function Home() {
  const photos = []
  for (let i = 1; i <= 10; i++) photos.push(h('img', { src: '/photos/' + i + '.bmp' }))
  return h('div', null, h('h1', null, 'Lisens'), h(Orders), h('h2', null, 'From the tracks'), h('div', { className: 'photos' }, photos))
}

function Orders() {
  const [orders, setOrders] = useState(null)
  const [q, setQ] = useState('')
  const load = () => fetch('/api/orders?q=' + q).then((r) => r.json()).then((data) => setOrders(data))
  useEffect(() => { load() }, [q])
  if (orders == null) return null
  return h('div', null,
    h('h2', null, 'Orders'),
    h('input', { placeholder: 'Search', value: q, onChange: (e) => setQ(e.target.value) }),
    h('table', null, h('tbody', null, orders.map((order) => h('tr', null,
      h('td', null, order.id), h('td', { dangerouslySetInnerHTML: { __html: order.user_name || order.user_id } }),
      h('td', null, (order.total_ore / 100).toFixed(2) + ' kr'), h('td', null, order.status),
      h('td', null, order.created_at.substring(0, 10)),
      h('td', null, h('a', { href: '/api/orders/' + order.id + '/refund' }, 'Refund')))))))
}

function Licences() {
  const [licences, setLicences] = useState([])
  useEffect(() => { fetch('/api/licences').then((r) => r.json()).then((data) => setLicences(data)) }, [])
  const suspendAll = async () => {
    const res = await fetch('/api/licences/bulk', { method: 'POST', body: JSON.stringify({ items: licences.map((l) => ({ id: l.id, status: 'suspended' })) }) })
    const result = await res.json()
    alert(JSON.stringify(result))
  }
  return h('div', null, h('h2', null, 'Licences'), h('button', { onClick: suspendAll }, 'Suspend all'),
    h('table', null, h('tbody', null, licences.map((l) => h('tr', null,
      h('td', null, l.id), h('td', null, l.kind), h('td', null, l.status), h('td', null, l.valid_until.substring(0, 10)))))))
}

function Users() {
  const [users, setUsers] = useState([])
  useEffect(() => { fetch('/api/users').then((r) => r.json()).then((data) => setUsers(data)) }, [])
  return h('div', null, h('h2', null, 'Users'),
    h('table', null, h('tbody', null, users.map((u) => h('tr', null, h('td', null, u.id), h('td', null, u.name), h('td', null, u.email), h('td', null, u.role))))))
}

function Estimate() {
  const [result, setResult] = useState(null)
  const send = async (e) => {
    e.preventDefault()
    const form = e.target
    const res = await fetch('/api/estimate', { method: 'POST', body: JSON.stringify({ discipline: form.discipline.value, races: form.races.value, mechanics: form.mechanics.value }) })
    setResult(await res.json())
  }
  return h('form', { onSubmit: send }, h('h2', null, 'What will a season cost?'),
    h('input', { name: 'discipline', placeholder: 'rally' }), h('input', { name: 'races', placeholder: 'races' }), h('input', { name: 'mechanics', placeholder: 'mechanics' }),
    h('button', null, 'Estimate'), result && h('p', null, result.estimate_ore / 100 + ' kr, ' + result.per_race_ore / 100 + ' kr per race'))
}

function Checkout() {
  const [kinds, setKinds] = useState([])
  const [done, setDone] = useState(null)
  useEffect(() => { fetch('/api/licence-kinds').then((r) => r.json()).then((data) => setKinds(data)) }, [])
  const buy = (kind) => {
    fetch('/api/checkout', { method: 'POST', body: JSON.stringify({ user_id: currentUser.id, items: [{ licence_kind: kind.kind, quantity: 1 }] }) }).then((r) => r.json()).then((order) => setDone(order))
  }
  return h('div', null, h('h2', null, 'Buy'), done && h('p', null, 'Thank you! Order ' + done.id),
    kinds.map((kind) => h('p', null, h('span', null, kind.name + ' ' + (kind.price_ore / 100).toFixed(2) + ' kr '), h('button', { onClick: () => buy(kind) }, 'Buy'))))
}

function Login() {
  const [msg, setMsg] = useState('')
  const send = async (e) => {
    e.preventDefault()
    const res = await fetch('/api/login', { method: 'POST', body: JSON.stringify({ email: e.target.email.value, password: e.target.password.value }) })
    const user = await res.json()
    if (user.id) { currentUser = user; localStorage.setItem('user', JSON.stringify(user)); setMsg('Hi ' + user.name) }
    else setMsg(user.message)
  }
  return h('form', { onSubmit: send }, h('h2', null, 'Log in'), h('input', { name: 'email' }), h('input', { name: 'password' }), h('button', null, 'Log in'), h('p', { className: 'err' }, msg))
}

const pages = { '/': Home, '/orders': Orders, '/licences': Licences, '/users': Users, '/estimate': Estimate, '/checkout': Checkout, '/login': Login }

function App() {
  const [path, setPath] = useState(location.pathname)
  useEffect(() => {
    const update = () => setPath(location.pathname)
    window.addEventListener('navigate', update)
    window.addEventListener('popstate', update)
  }, [])
  const Page = pages[path]
  return h('div', null, h(Nav), h(Banner), h(Page, { key: path }), h(Footer))
}

function startApp(root) {
  currentUser = JSON.parse(localStorage.getItem('user'))
  ReactDOM.createRoot(root).render(h(App))
}
