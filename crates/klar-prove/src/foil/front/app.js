// What this app does wrong is switched by the server; the names of the switches stand in no file that it serves.
// Every line ends so that the next may follow it at once: the server joins them.
const faults = new Set(__FAULTS__);
const main = document.querySelector('main');
const home = main.innerHTML;

// One region of the page: when its work fails, it says so, and nothing else is touched.
async function region(id, work) {
    const place = document.getElementById(id);
    try {
        await work(place);
    } catch (why) {
        if (faults.has('no-boundary')) {
            document.body.textContent = '';
            throw why;
        }
        if (faults.has('dead-links')) {
            addEventListener('click', (event) => event.preventDefault() || event.stopImmediatePropagation(), true);
        }
        place.innerHTML = '<p role="alert">This part could not be shown.</p>';
    }
    place.removeAttribute('aria-busy');
}

// The news, three of them, as high as their placeholders.
async function news(place) {
    const answer = await fetch('/api/news');
    const told = await answer.json();
    const lines = told.news.map((each) => '<li>' + each.title + '</li>');
    if (faults.has('layout-shift')) {
        lines.unshift('<li>A line that nobody expected</li>'.repeat(12));
    }
    place.innerHTML = '<ul>' + lines.join('') + '</ul>';
}

// The long list is fetched when somebody opens it, and not before.
async function list() {
    const { rows } = await import('/assets/list-9f8e7d6c5b4a3f2e.js');
    main.innerHTML = '<div id="rows" role="grid" aria-rowcount="10000" tabindex="0"><div role="presentation"></div></div>';
    rows(document.getElementById('rows'), faults);
}

// The latest notes, and what the address asks for: whoever wrote it, it is text.
async function notes() {
    const draw = (place, text, fault) => {
        place[faults.has(fault) ? 'innerHTML' : 'textContent'] = text;
    };
    main.innerHTML = '<p>Notes with <b id="with"></b> <i id="about"></i></p><ul id="notes"></ul>';
    draw(document.getElementById('with'), new URLSearchParams(location.search).get('q') || 'any text', 'xss-parameter');
    draw(document.getElementById('about'), decodeURIComponent(location.hash.slice(1)), 'xss-fragment');
    const answer = await fetch('/api/notes');
    const told = await answer.json();
    const lines = told.notes.map((note) => {
        const line = document.createElement('li');
        draw(line, note, 'xss-drawn');
        return line;
    });
    document.getElementById('notes').replaceChildren(...lines);
}

function show() {
    if (location.pathname === '/notes') {
        return notes();
    }
    if (location.pathname === '/list') {
        return list();
    }
    if (main.innerHTML !== home) {
        main.innerHTML = home;
    }
    if (faults.has('no-skeleton')) {
        main.replaceChildren();
        main.innerHTML = '<section id="news"></section>';
        document.querySelector('header').hidden = true;
        return region('news', news).then(() => {
            document.querySelector('header').hidden = false;
        });
    }
    return region('news', news);
}

addEventListener('popstate', show);
addEventListener('click', (event) => {
    const link = event.target.closest('a[href="/"],a[href="/list"]');
    if (link && !event.ctrlKey && !event.metaKey) {
        event.preventDefault();
        history.pushState(null, '', link.href);
        show();
    }
});

if (faults.has('long-task')) {
    setTimeout(() => {
        const until = performance.now() + 900;
        while (performance.now() < until) {
            Math.sqrt(until);
        }
    }, 50);
}
if (faults.has('eager-chunks')) {
    import('/assets/list-9f8e7d6c5b4a3f2e.js');
}
if (!faults.has('no-service-worker') && navigator.serviceWorker) {
    navigator.serviceWorker.register('/sw.js').catch(() => {});
}
show();
