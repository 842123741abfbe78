// A list of ten thousand rows that draws those in view, and fetches the next part before its end comes in view.
const ROW = 40;
const PART = 500;

export function rows(view, faults) {
    const ground = view.firstElementChild;
    const all = faults.has('unreachable-rows') ? 5000 : 10000;
    const titles = [];
    let loading = false;

    // Draws the rows from one before the first in view to one after the last.
    const draw = () => {
        const first = Math.max(0, Math.floor(view.scrollTop / ROW) - 1);
        const count = Math.ceil(view.clientHeight / ROW) + 2;
        const from = faults.has('all-rows') ? 0 : first;
        const to = Math.min(titles.length, first + count);
        const drawn = [];
        for (let at = from; at < to; at += 1) {
            const row = document.createElement('div');
            row.setAttribute('role', 'row');
            row.setAttribute('aria-rowindex', String(at + 1));
            row.style.top = (at * ROW) + 'px';
            row.textContent = titles[at];
            drawn.push(row);
        }
        ground.replaceChildren(...drawn);
        if (to + 200 > titles.length) {
            more();
        }
    };

    const more = async () => {
        if (loading || titles.length >= all) {
            return;
        }
        loading = true;
        const url = '/api/rows?from=' + titles.length + '&count=' + PART;
        const answer = await fetch(url);
        const part = await answer.json();
        if (faults.has('fetched-twice') && titles.length < 1000) {
            await fetch(url);
        }
        titles.push(...part.rows);
        ground.style.height = (titles.length * ROW) + 'px';
        loading = false;
        draw();
    };

    view.addEventListener('scroll', () => requestAnimationFrame(draw));
    more();
}
