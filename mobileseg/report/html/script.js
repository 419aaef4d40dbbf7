'use strict';
// Light or dark: as the system says, until the button is pressed; kept where the browser allows it.
const root = document.documentElement;
const button = document.getElementById('theme');
const system = matchMedia('(prefers-color-scheme: dark)');
const store = {
  get() { try { return localStorage.getItem('mobileseg-theme'); } catch { return null; } },
  set(value) { try { localStorage.setItem('mobileseg-theme', value); } catch { /* refused */ } },
};
function dark() {
  return root.dataset.theme ? root.dataset.theme === 'dark' : system.matches;
}
function name() {
  button.textContent = dark() ? 'Light' : 'Dark';
}
const kept = store.get();
if (kept === 'light' || kept === 'dark') {
  root.dataset.theme = kept;
}
button.hidden = false;
button.addEventListener('click', () => {
  root.dataset.theme = dark() ? 'light' : 'dark';
  store.set(root.dataset.theme);
  name();
});
system.addEventListener('change', name);
name();

// Tables: by a column's numbers, else by its words; what has no number stays at the end.
function key(row, column) {
  const cell = row.cells[column];
  return cell.dataset.value === undefined ? null : Number(cell.dataset.value);
}
function sort(head) {
  const table = head.closest('table');
  const column = head.cellIndex;
  const body = table.tBodies[0];
  const up = head.getAttribute('aria-sort') !== 'ascending';
  const rows = [...body.rows];
  const numbers = rows.some((row) => key(row, column) !== null);
  rows.sort((a, b) => {
    if (!numbers) {
      const order = a.cells[column].textContent.localeCompare(b.cells[column].textContent);
      return up ? order : -order;
    }
    const [x, y] = [key(a, column), key(b, column)];
    if (x === null || y === null) {
      return (x === null) - (y === null);
    }
    return up ? x - y : y - x;
  });
  body.append(...rows);
  for (const other of table.tHead.rows[0].cells) {
    other.setAttribute('aria-sort', other === head ? (up ? 'ascending' : 'descending') : 'none');
  }
}
for (const each of document.querySelectorAll('.sort')) {
  each.addEventListener('click', () => sort(each.closest('th')));
}
