import http from 'node:http'
import fs from 'node:fs'
import path from 'node:path'
import crypto from 'node:crypto'
import pg from 'pg'

const DB_URL = process.env.DATABASE_URL || 'postgres://lisens:Sommer2024@localhost:5432/lisens'
const PAYMENT_API_KEY = 'sk_demo_not_a_real_key_4f8a1c'
const WEB_DISCOUNT = 0.9

const db = new pg.Pool({ connectionString: DB_URL })

async function createTables() {
  await db.query(`CREATE TABLE IF NOT EXISTS licence_kinds (kind text PRIMARY KEY, name text, price_ore float, valid_days int)`)
  await db.query(`CREATE TABLE IF NOT EXISTS users (id serial PRIMARY KEY, name text, email text, password text, role text DEFAULT 'user', club text, created_at timestamptz DEFAULT now())`)
  await db.query(`CREATE TABLE IF NOT EXISTS orders (id serial PRIMARY KEY, user_id int, status text, total_ore float, created_at timestamptz DEFAULT now())`)
  await db.query(`CREATE TABLE IF NOT EXISTS order_lines (order_id int, line_no int, licence_kind text, quantity int, unit_price_ore float)`)
  await db.query(`CREATE TABLE IF NOT EXISTS licences (id serial PRIMARY KEY, order_id int, user_id int, kind text, status text DEFAULT 'active', valid_from date, valid_until date, created_at timestamptz DEFAULT now())`)

  const result = await db.query('SELECT * FROM orders')
  if (result.rows.length > 0) return

  await db.query(`INSERT INTO licence_kinds VALUES
    ('helarslisens', 'Helårslisens', 145000, 365),
    ('engangslisens', 'Engangslisens', 34990, 1),
    ('mekaniker', 'Mekanikerlisens', 30000, 365),
    ('barnelisens', 'Barnelisens', 25000, 365)`)
  const kinds = (await db.query('SELECT * FROM licence_kinds')).rows
  const names = ['Kari Haugen', 'Ole Bakken', 'Ingrid Solberg', 'Per Ødegård', 'Silje Moen', 'Lars Strand', 'Nora Lie', 'Knut Dahl']

  console.log('seeding...')
  const logins = [['user', 'user'], ['other', 'user'], ['official', 'official'], ['admin', 'admin']]
  for (const [who, role] of logins) {
    await db.query(`INSERT INTO users (name, email, password, role, club) VALUES ('${names[logins.length]}', '${who}@example.com', '${who}123', '${role}', 'NMK Fjellbygda')`)
  }
  await db.query(`INSERT INTO users (name, email, password, club)
    SELECT (ARRAY['${names.join("','")}'])[i % 8 + 1] || ' ' || i, 'user' || i || '@example.com', 'passord' || i, 'NMK Fjellbygda' FROM generate_series(5, 2000) i`)
  // the first orders are for testing, one of each kind
  for (let i = 1; i <= 8; i++) {
    const kind = kinds[i % kinds.length]
    const order = await db.query(`INSERT INTO orders (user_id, status, total_ore, created_at) VALUES (${i % 4 + 1}, 'paid', ${kind.price_ore}, now() - interval '${12000 - i} hours') RETURNING *`)
    await saveLine(order.rows[0], kind, 1, 1)
  }
  await db.query(`INSERT INTO orders (user_id, status, total_ore, created_at)
    SELECT (i * 7) % 2000 + 1, 'paid', 34990, now() - (12000 - i) * interval '1 hour' FROM generate_series(9, 12000) i`)
  await db.query(`INSERT INTO order_lines SELECT id, 1, 'engangslisens', 1, 34990 FROM orders WHERE id > 8`)
  await db.query(`INSERT INTO licences (order_id, user_id, kind, valid_from, valid_until) SELECT id, user_id, 'engangslisens', created_at, created_at FROM orders WHERE id > 8`)
  console.log('done seeding')
}

async function saveLine(order, kind, quantity, lineNo) {
  await db.query(`INSERT INTO order_lines VALUES (${order.id}, ${lineNo}, '${kind.kind}', ${quantity}, ${kind.price_ore})`)
  for (let i = 0; i < quantity; i++) {
    await db.query(`INSERT INTO licences (order_id, user_id, kind, valid_from, valid_until) VALUES (${order.id}, ${order.user_id}, '${kind.kind}', now(), now() + interval '${kind.valid_days} days')`)
  }
}

async function getUser(id) {
  const result = await db.query(`SELECT * FROM users WHERE id = ${id}`)
  return result.rows[0]
}

async function getOrders(q) {
  if (q) return (await db.query(`SELECT orders.*, users.name AS user_name FROM orders, users WHERE users.id = orders.user_id AND users.name ILIKE '%${q}%'`)).rows
  const orders = (await db.query('SELECT * FROM orders ORDER BY created_at DESC')).rows
  return orders
}

async function checkout(cart) {
  let total = 0
  for (const item of cart.items) {
    const kind = (await db.query(`SELECT * FROM licence_kinds WHERE kind = '${item.licence_kind}'`)).rows[0]
    total += (kind.price_ore / 100) * item.quantity * WEB_DISCOUNT
  }
  const order = (await db.query(`INSERT INTO orders (user_id, status, total_ore) VALUES (${cart.user_id}, 'paid', ${total * 100}) RETURNING *`)).rows[0]
  let lineNo = 1
  for (const item of cart.items) {
    const kind = (await db.query(`SELECT * FROM licence_kinds WHERE kind = '${item.licence_kind}'`)).rows[0]
    await saveLine(order, kind, item.quantity, lineNo++)
  }
  console.log('charging ' + total + ' kr for user ' + cart.user_id + ' with key ' + PAYMENT_API_KEY)
  return order
}

async function bulkUpdate(items) {
  let updated = 0
  for (const item of items) {
    const result = await db.query(`UPDATE licences SET status = '${item.status}' WHERE id = ${item.id} RETURNING *`)
    if (result.rows.length == 0) return { ok: false, message: 'no licence ' + item.id, updated: updated }
    updated++
  }
  return { ok: true, updated: updated }
}

async function updateUser(id, body) {
  const fields = []
  for (const key of Object.keys(body)) {
    fields.push(key + " = '" + body[key] + "'")
  }
  const result = await db.query('UPDATE users SET ' + fields.join(', ') + ' WHERE id = ' + id + ' RETURNING *')
  return result.rows[0]
}

async function login(body) {
  const user = (await db.query(`SELECT * FROM users WHERE email = '${body.email}' AND password = '${body.password}'`)).rows[0]
  if (user) console.log('login ' + body.email + ' ' + body.password)
  return user
}

// TODO: karting and autoslalåm
const DISCIPLINES = {
  rally: { kind: 'helarslisens', factor: 1.5 },
  rallycross: { kind: 'helarslisens', factor: 1.2 },
  bilcross: { kind: 'helarslisens', factor: 1 },
}

async function estimate(body) {
  const discipline = DISCIPLINES[body.discipline]
  const kind = discipline.kind
  const result = await db.query(`SELECT price_ore * ${discipline.factor} + 30000 * ${body.mechanics} AS total, (price_ore * ${discipline.factor} + 30000 * ${body.mechanics}) / ${body.races} AS per_race FROM licence_kinds WHERE kind = '${kind}'`)
  return { estimate_ore: result.rows[0].total, per_race_ore: result.rows[0].per_race, source: 'rule' }
}

// test pictures until we get the real ones from the club
function makePhotos() {
  var dir = path.join('public', 'photos')
  if (fs.existsSync(dir)) return
  fs.mkdirSync(dir, { recursive: true })
  for (var n = 1; n <= 10; n++) {
    var w = 1200, h = 800
    var bmp = Buffer.alloc(54 + w * h * 3)
    bmp.write('BM')
    bmp.writeUInt32LE(bmp.length, 2)
    bmp.writeUInt32LE(54, 10)
    bmp.writeUInt32LE(40, 14)
    bmp.writeInt32LE(w, 18)
    bmp.writeInt32LE(h, 22)
    bmp.writeUInt16LE(1, 26)
    bmp.writeUInt16LE(24, 28)
    crypto.randomFillSync(bmp, 54)
    fs.writeFileSync(path.join(dir, n + '.bmp'), bmp)
  }
}

function sendFile(res, file) {
    var types = { '.html': 'text/html; charset=utf-8', '.js': 'text/javascript', '.css': 'text/css', '.bmp': 'image/bmp' }
    if (!fs.existsSync(file) || fs.statSync(file).isDirectory()) file = 'public/index.html'
    const ext = path.extname(file)
    res.setHeader('Content-Type', types[ext] || 'application/octet-stream')
    res.end(fs.readFileSync(file))
}

function sendJson(res, data) {
  res.setHeader('Content-Type', 'application/json')
  res.setHeader('Access-Control-Allow-Origin', '*')
  res.end(JSON.stringify(data))
}

function readBody(req) {
  return new Promise((resolve) => {
    let body = ''
    req.on('data', (chunk) => { body += chunk })
    req.on('end', () => resolve(JSON.parse(body)))
  })
}

const server = http.createServer(async (req, res) => {
  const url = new URL(req.url, 'http://localhost')
  const id = url.pathname.split('/')[3]

  if (url.pathname === '/print') {
    const orders = await getOrders()
    let html = '<h1>Lisens</h1><form>Search: <input name="q"></form>'
    const q = url.searchParams.get('q')
    if (q) html += `<p>Results for ${q}</p>`
    html += '<table>'
    for (const order of orders) {
      const user = await getUser(order.user_id)
      if (q && !user.name.includes(q)) continue
      html += `<tr><td>${order.id}</td><td>${user.name}</td><td>${order.total_ore / 100} kr</td></tr>`
    }
    res.setHeader('Content-Type', 'text/html; charset=utf-8')
    res.end(html + '</table>')
  } else if (url.pathname === '/api/orders') {
    sendJson(res, await getOrders(url.searchParams.get('q')))
  } else if (url.pathname.startsWith('/api/orders/') && url.pathname.endsWith('/refund')) {
    try {
      await db.query(`UPDATE orders SET status = 'refunded' WHERE id = ${id}`)
    } catch (e) {}
    sendJson(res, { ok: true })
  } else if (url.pathname.startsWith('/api/orders/')) {
    try {
      const order = (await db.query(`SELECT * FROM orders WHERE id = ${decodeURIComponent(id)}`)).rows[0]
      sendJson(res, order)
    } catch (err) {
      res.statusCode = 500
      sendJson(res, { message: err.message, stack: err.stack, detail: err })
    }
  } else if (url.pathname === '/api/licences') {
    const kind = url.searchParams.get('kind')
    const where = kind ? `WHERE kind = '${kind}'` : ''
    sendJson(res, (await db.query(`SELECT * FROM licences ${where}`)).rows)
  } else if (url.pathname === '/api/licences/bulk') {
    const body = await readBody(req)
    sendJson(res, await bulkUpdate(body.items))
  } else if (url.pathname === '/api/licence-kinds') {
    sendJson(res, (await db.query('SELECT * FROM licence_kinds')).rows)
  } else if (url.pathname === '/api/login') {
    const user = await login(await readBody(req))
    if (user) {
      res.setHeader('Set-Cookie', 'session=user-' + user.id + '; Path=/; Expires=Fri, 31 Dec 2099 23:59:59 GMT')
      sendJson(res, user)
    } else {
      sendJson(res, { ok: false, message: 'Wrong password' })
    }
  } else if (url.pathname === '/api/estimate') {
    sendJson(res, await estimate(await readBody(req)))
  } else if (url.pathname === '/api/users') {
    sendJson(res, (await db.query('SELECT * FROM users')).rows)
  } else if (url.pathname.startsWith('/api/users/') && req.method == 'PATCH') {
    sendJson(res, await updateUser(id, await readBody(req)))
  } else if (url.pathname.startsWith('/api/users/')) {
    const user = await getUser(decodeURIComponent(id))
    sendJson(res, user)
  } else if (url.pathname === '/api/checkout') {
    const cart = await readBody(req)
    sendJson(res, await checkout(cart))
  } else if (url.pathname.startsWith('/vendor/')) {
    const lib = url.pathname.split('/')[2]
    sendFile(res, 'node_modules/' + lib + '/umd/' + lib + '.development.js')
  } else if (url.pathname.startsWith('/api/')) {
    res.statusCode = 404
    res.end('Not found')
  } else {
    sendFile(res, 'public' + decodeURIComponent(url.pathname))
  }
})

makePhotos()
if (process.argv[2] === 'photos') process.exit()
await createTables()
server.listen(process.env.PORT || 3000, () => {
  console.log('Server running on port ' + (process.env.PORT || 3000))
})
