import http from 'node:http'
import pg from 'pg'

const DB_URL = process.env.DATABASE_URL || 'postgres://lisens:Sommer2024@localhost:5432/lisens'
const PAYMENT_API_KEY = 'sk_demo_not_a_real_key_4f8a1c'
const WEB_DISCOUNT = 0.9

const db = new pg.Pool({ connectionString: DB_URL })

async function createTables() {
  await db.query(`CREATE TABLE IF NOT EXISTS licence_kinds (kind text PRIMARY KEY, name text, price_ore float, valid_days int)`)
  await db.query(`CREATE TABLE IF NOT EXISTS users (id serial PRIMARY KEY, name text, email text, club text, created_at timestamptz DEFAULT now())`)
  await db.query(`CREATE TABLE IF NOT EXISTS orders (id serial PRIMARY KEY, user_id int, status text, total_ore float, created_at timestamptz DEFAULT now())`)
  await db.query(`CREATE TABLE IF NOT EXISTS order_lines (order_id int, line_no int, licence_kind text, quantity int, unit_price_ore float)`)
  await db.query(`CREATE TABLE IF NOT EXISTS licences (id serial PRIMARY KEY, order_id int, user_id int, kind text, valid_from date, valid_until date, created_at timestamptz DEFAULT now())`)

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
  for (let i = 1; i <= 200; i++) {
    const name = names[i % names.length]
    await db.query(`INSERT INTO users (name, email, club) VALUES ('${name}', 'user${i}@example.com', 'NMK Fjellbygda')`)
  }
  for (let i = 1; i <= 1000; i++) {
    const userId = (i * 7) % 200 + 1
    const kind = kinds[i % kinds.length]
    const order = await db.query(`INSERT INTO orders (user_id, status, total_ore, created_at) VALUES (${userId}, 'paid', ${kind.price_ore}, now() - interval '${1000 - i} hours') RETURNING *`)
    await saveLine(order.rows[0], kind, 1, 1)
  }
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

async function getOrders() {
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

  if (url.pathname === '/') {
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
    sendJson(res, await getOrders())
  } else if (url.pathname.startsWith('/api/orders/') && url.pathname.endsWith('/refund')) {
    await db.query(`UPDATE orders SET status = 'refunded' WHERE id = ${id}`)
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
  } else if (url.pathname === '/api/users') {
    sendJson(res, (await db.query('SELECT * FROM users')).rows)
  } else if (url.pathname.startsWith('/api/users/')) {
    const user = await getUser(decodeURIComponent(id))
    sendJson(res, user)
  } else if (url.pathname === '/api/checkout') {
    const cart = await readBody(req)
    sendJson(res, await checkout(cart))
  } else {
    res.statusCode = 404
    res.end('Not found')
  }
})

await createTables()
server.listen(process.env.PORT || 3000, () => {
  console.log('Server running on port ' + (process.env.PORT || 3000))
})
