// Two pictures that change together with a slider, from frames that are all here: no call to the server.
// value: {key, start, labels: [text], pretrained: [uri], personalized: [uri]}
const SIDES = ['pretrained', 'personalized'];
const FRAME_MS = 140;
const root = element.querySelector('.m3-flipbook');
const slider = root.querySelector('input');
const said = root.querySelector('.m3-angle');
const play = root.querySelector('button');
let key = null;
let timer = null;
let forwards = true;

function show() {
  const book = props.value;
  const count = book && book.labels ? book.labels.length : 0;
  root.classList.toggle('m3-ready', count > 0);
  slider.disabled = play.disabled = count < 2;
  if (!count) {
    pause();
    key = null;
    said.textContent = '';
    for (const side of SIDES) root.querySelector(`[data-side=${side}] img`).removeAttribute('src');
    return;
  }
  if (book.key !== key) {
    pause();
    key = book.key;
    slider.max = count - 1;
    slider.value = book.start;
    for (const side of SIDES) for (const uri of book[side]) new Image().src = uri; // decoded ahead
  }
  const index = Number(slider.value);
  for (const side of SIDES) {
    const picture = root.querySelector(`[data-side=${side}] img`);
    if (picture.getAttribute('src') !== book[side][index]) picture.src = book[side][index];
  }
  said.textContent = book.labels[index];
  slider.setAttribute('aria-valuetext', book.labels[index]);
}

function pause() {
  clearInterval(timer);
  timer = null;
  play.textContent = 'Play';
}

function step() {
  const index = Number(slider.value);
  if (index >= Number(slider.max)) forwards = false;
  if (index <= 0) forwards = true;
  slider.value = index + (forwards ? 1 : -1);
  show();
}

slider.addEventListener('input', () => {
  pause();
  show();
});
play.addEventListener('click', () => {
  if (timer) return pause();
  timer = setInterval(step, FRAME_MS);
  play.textContent = 'Pause';
});
watch('value', show);
show();
