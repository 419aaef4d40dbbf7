// What a page lacks for its readers, as a list of words; empty where all is well.
(() => {
  const problems = [];
  const width = %WIDTH%;
  const say = (what, element) => {
    const name = element.tagName + (element.className.baseVal ?? element.className ?? '');
    problems.push(`${what}: ${name} ${(element.textContent ?? '').trim().slice(0, 40)}`);
  };

  // Nothing but what scrolls in a box of its own is wider than the screen.
  if (document.documentElement.scrollWidth > width) {
    problems.push(`the page is ${document.documentElement.scrollWidth} wide`);
  }
  const hidden = (element) => !element.checkVisibility({visibilityProperty: true})
    || element.closest('.heard, .skip');
  for (const element of document.body.querySelectorAll('*')) {
    if (hidden(element) || element.closest('.scroll *, pre *, svg *')) continue;
    const box = element.getBoundingClientRect();
    if (box.right > width + 1 || box.left < -1) say('outside of the screen', element);
  }

  // Every text stands out from what is behind it, 4.5 to 1. WCAG 2.2, 1.4.3.
  const numbers = (colour) => {
    const found = colour.match(/[\d.]+/g).map(Number);
    return found.length === 3 ? [...found, 1] : found;
  };
  const light = (colour) => {
    const [r, g, b] = colour.slice(0, 3).map((part) => {
      const share = part / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = numbers(getComputedStyle(at).backgroundColor);
      if (colour[3] > 0) return colour;
    }
    return [255, 255, 255, 1];
  };
  let texts = 0;
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const element = walk.currentNode.parentElement;
    if (!walk.currentNode.data.trim() || element.closest('script, style, desc, title')) continue;
    if (hidden(element)) continue;
    texts += 1;
    const style = getComputedStyle(element);
    const front = light(numbers(element.closest('svg') ? style.fill : style.color));
    const back = light(behind(element));
    const ratio = (Math.max(front, back) + 0.05) / (Math.min(front, back) + 0.05);
    if (ratio < 4.5) say(`contrast ${ratio.toFixed(2)}`, element);
  }
  if (texts < 50) problems.push(`only ${texts} texts were seen`);

  // Pictures say what they show, and are there.
  for (const picture of document.images) {
    if (!picture.alt) say('no alt', picture);
    if (!hidden(picture) && !picture.naturalWidth) say('not there', picture);
  }
  // Names for all that can be pressed or read alone, and room for a finger. WCAG 2.2, 2.5.8.
  for (const element of document.querySelectorAll('a, button, summary')) {
    if (hidden(element)) continue;
    if (!element.textContent.trim()) say('no name', element);
    const box = element.getBoundingClientRect();
    if (box.height < 24 || box.width < 24) say(`${box.width}x${box.height}`, element);
  }
  for (const element of document.querySelectorAll('[role="img"], [role="region"], nav')) {
    if (!element.getAttribute('aria-label')) say('no label', element);
  }
  let level = 0;
  for (const head of document.querySelectorAll('h1, h2, h3, h4')) {
    const next = Number(head.tagName[1]);
    if (next > level + 1) say(`h${next} after h${level}`, head);
    level = next;
  }
  return problems;
})()
