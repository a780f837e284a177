// Paint a mask over a picture with mouse, finger or pen. Nothing is sent before the task starts: the mask is
// part of the component's value. value: {key, crop: uri, mask: uri of a PNG, white where painted, part: the part of the
// face that it is, or null}
const SIDE = 512;
const root = element.querySelector('.m3-painter');
const box = root.querySelector('.m3-canvas');
const picture = root.querySelector('img');
const canvas = root.querySelector('canvas');
const size = root.querySelector('input[type=range]');
const tools = [...root.querySelectorAll('[data-tool]')];
const pen = canvas.getContext('2d');
let shown = null; // what the canvas shows already: key and mask
let last = null;
let pointer = null; // the finger that paints: others rest
let tool = 'paint';
let wiped = false; // everything was wiped off, and no part of the face chosen since: what is drawn of one comes too late

const ready = () => Boolean(props.value && props.value.crop);

function show() {
  root.classList.toggle('m3-ready', ready());
  for (const part of [size, ...root.querySelectorAll('button')]) part.disabled = !ready();
  if (!ready()) {
    picture.removeAttribute('src');
    pen.clearRect(0, 0, SIDE, SIDE);
    shown = null;
    wiped = false;
    return;
  }
  const { key, crop, mask, part } = props.value;
  if (picture.getAttribute('src') !== crop) picture.src = crop;
  if (wiped && part) {
    wipe();
    return;
  }
  const now = `${key} ${mask}`;
  if (now === shown) return;
  shown = now;
  const drawn = new Image();
  drawn.onload = () => {
    if (shown !== now) return;
    pen.globalCompositeOperation = 'source-over';
    pen.clearRect(0, 0, SIDE, SIDE);
    pen.drawImage(drawn, 0, 0);
  };
  if (mask) drawn.src = mask;
  else pen.clearRect(0, 0, SIDE, SIDE);
}

function keep() {
  const mask = canvas.toDataURL('image/png');
  shown = `${props.value.key} ${mask}`;
  props.value = { ...props.value, mask, part: null };
}

function wipe() {
  pen.clearRect(0, 0, SIDE, SIDE);
  keep();
}

function place(event) {
  const area = canvas.getBoundingClientRect();
  const scale = SIDE / Math.max(area.width, 1);
  return [(event.clientX - area.left) * scale, (event.clientY - area.top) * scale];
}

function stroke(to) {
  pen.globalCompositeOperation = tool === 'erase' ? 'destination-out' : 'source-over';
  pen.strokeStyle = '#fff';
  pen.lineCap = 'round';
  pen.lineWidth = Number(size.value);
  pen.beginPath();
  pen.moveTo(...(last || to));
  pen.lineTo(to[0], to[1] + (last ? 0 : 0.01)); // a line of no length draws nothing
  pen.stroke();
  last = to;
}

canvas.addEventListener('pointerdown', (event) => {
  if (!ready() || pointer !== null || event.button !== 0) return;
  pointer = event.pointerId;
  canvas.setPointerCapture(pointer);
  last = null;
  stroke(place(event));
  event.preventDefault();
});
canvas.addEventListener('pointermove', (event) => {
  if (event.pointerId !== pointer) return;
  for (const each of event.getCoalescedEvents?.() || [event]) stroke(place(each));
});
for (const name of ['pointerup', 'pointercancel', 'lostpointercapture']) {
  canvas.addEventListener(name, (event) => {
    if (event.pointerId !== pointer) return;
    if (ready()) keep();
    last = pointer = null;
  });
}
for (const button of tools) {
  button.addEventListener('click', () => {
    tool = button.dataset.tool;
    for (const each of tools) each.setAttribute('aria-pressed', String(each === button));
  });
}
root.querySelector('.m3-clear').addEventListener('click', () => {
  wiped = true;
  wipe();
  trigger('clear'); // no part of the face is chosen any more
});
// the parts of the face may be laid out later than this
document.addEventListener('input', (event) => {
  if (event.target.closest?.(`#${root.dataset.parts}`)) wiped = false;
});
watch('value', show);
show();
