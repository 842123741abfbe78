// A list of ten thousand rows that draws those in view.
const ROW = 40;
const ALL = 10000;

export function rows(view, faults) {
    const ground = view.firstElementChild;
    const all = faults.has('unreachable-rows') ? 5000 : ALL;
    ground.style.height = (all * ROW) + 'px';

    // Draws the rows from one before the first in view to one after the last.
    const draw = () => {
        const first = Math.max(0, Math.floor(view.scrollTop / ROW) - 1);
        const count = Math.ceil(view.clientHeight / ROW) + 2;
        const [from, to] = faults.has('all-rows') ? [0, all] : [first, Math.min(all, first + count)];
        const drawn = [];
        for (let at = from; at < to; at += 1) {
            const row = document.createElement('div');
            row.setAttribute('role', 'row');
            row.setAttribute('aria-rowindex', String(at + 1));
            row.style.top = (at * ROW) + 'px';
            row.textContent = 'Row ' + (at + 1);
            drawn.push(row);
        }
        ground.replaceChildren(...drawn);
    };
    if (!faults.has('all-rows')) {
        view.addEventListener('scroll', () => requestAnimationFrame(draw));
    }
    draw();
}
