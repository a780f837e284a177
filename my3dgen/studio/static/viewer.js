// Turns pre-rendered views by dragging: no call to the server while the pointer moves.
// value: {key, yaws, pitches, limit, total, pretrained: {"row_column": uri}, personalized: {...}}
const SIDES = ['pretrained', 'personalized'];
const RADIANS_PER_WIDTH = 1.2; // how far a drag across the whole picture turns the face
const KEY_STEP = 0.125;
const root = element.querySelector('.m3-viewer');
const stage = root.querySelector('.m3-stage3d');
const badge = root.querySelector('.m3-badge');
const said = root.querySelector('.m3-angle');
const bar = root.querySelector('.m3-fill');
const images = { pretrained: {}, personalized: {} };
let key = null;
let yaw = 0;
let pitch = 0;
let drag = null;

const clamp = (value, list) => Math.min(Math.max(value, list[0]), list[list.length - 1]);
const degrees = (radians) => Math.round((Math.abs(radians) * 180) / Math.PI);

function nearest(side, grid) {
  // The loaded view closest to the wished angles: while the grid fills up, the best there is.
  let best = null;
  let distance = Infinity;
  for (const name of Object.keys(grid[side] || {})) {
    const [row, column] = name.split('_').map(Number);
    const d = Math.hypot(grid.yaws[column] - yaw, 1.2 * (grid.pitches[row] - pitch));
    if (d < distance) {
      distance = d;
      best = name;
    }
  }
  return best;
}

function words(grid) {
  const parts = [];
  if (degrees(yaw) > 0) parts.push(`${degrees(yaw)}° to its ${yaw > 0 ? 'right' : 'left'}`);
  if (degrees(pitch) > 0) parts.push(`${degrees(pitch)}° ${pitch > 0 ? 'down' : 'up'}`);
  return parts.length ? `head turned ${parts.join(', ')}` : 'front view';
}

function show() {
  const grid = props.value;
  const ready = grid && grid.yaws && Object.keys(grid.pretrained || {}).length > 0;
  root.classList.toggle('m3-ready', Boolean(ready));
  stage.setAttribute('aria-disabled', ready ? 'false' : 'true');
  if (!ready) {
    key = drag = null;
    yaw = pitch = 0;
    for (const side of SIDES) {
      images[side] = {}; // decoded faces, too, go with what was deleted
      const picture = root.querySelector(`[data-side=${side}] img`);
      picture.removeAttribute('src');
      delete picture.dataset.view;
    }
    badge.hidden = true;
    root.classList.remove('m3-beyond');
    stage.classList.remove('m3-dragging');
    said.textContent = '';
    bar.style.width = '0';
    return;
  }
  if (grid.key !== key) {
    key = grid.key;
    yaw = 0;
    pitch = 0;
    for (const side of SIDES) images[side] = {};
  }
  yaw = clamp(yaw, grid.yaws);
  pitch = clamp(pitch, grid.pitches);
  for (const side of SIDES) {
    for (const [name, uri] of Object.entries(grid[side])) {
      if (!images[side][name]) {
        // Decoded ahead, so that turning never flashes.
        images[side][name] = new Image();
        images[side][name].src = uri;
      }
    }
    const name = nearest(side, grid);
    const picture = root.querySelector(`[data-side=${side}] img`);
    if (name && picture.dataset.view !== `${key}/${name}`) {
      picture.dataset.view = `${key}/${name}`;
      picture.src = grid[side][name];
    }
  }
  const beyond = Math.abs(yaw) > grid.limit + 1e-6 || Math.abs(pitch) > grid.limit + 1e-6;
  badge.hidden = !beyond;
  root.classList.toggle('m3-beyond', beyond);
  const done = Object.keys(grid.pretrained).length;
  bar.style.width = `${(100 * done) / grid.total}%`;
  bar.parentElement.classList.toggle('m3-done', done >= grid.total);
  const filling = done < grid.total ? ` · ${done} of ${grid.total} views` : '';
  said.textContent = words(grid) + filling;
  stage.setAttribute('aria-valuetext', words(grid) + (beyond ? ', extrapolated' : ''));
  stage.setAttribute('aria-valuenow', String(Math.round((yaw * 180) / Math.PI)));
}

function turn(newYaw, newPitch) {
  const grid = props.value;
  if (!grid || !grid.yaws) return;
  yaw = clamp(newYaw, grid.yaws);
  pitch = clamp(newPitch, grid.pitches);
  show();
}

// The nose follows the pointer: to the left is the person's left turned towards the camera.
stage.addEventListener('pointerdown', (event) => {
  if (!props.value || !props.value.yaws || drag || event.button !== 0) return;
  drag = { id: event.pointerId, x: event.clientX, y: event.clientY, yaw, pitch };
  stage.setPointerCapture(event.pointerId);
  stage.classList.add('m3-dragging');
});
stage.addEventListener('pointermove', (event) => {
  if (!drag || drag.id !== event.pointerId) return;
  const width = root.querySelector('.m3-face').clientWidth;
  const scale = RADIANS_PER_WIDTH / Math.max(width, 1);
  turn(drag.yaw - (event.clientX - drag.x) * scale, drag.pitch + (event.clientY - drag.y) * scale);
});
for (const name of ['pointerup', 'pointercancel', 'lostpointercapture']) {
  stage.addEventListener(name, (event) => {
    if (!drag || drag.id !== event.pointerId) return;
    drag = null;
    stage.classList.remove('m3-dragging');
  });
}
stage.addEventListener('keydown', (event) => {
  const moves = {
    ArrowLeft: [KEY_STEP, 0],
    ArrowRight: [-KEY_STEP, 0],
    ArrowUp: [0, -KEY_STEP],
    ArrowDown: [0, KEY_STEP],
  };
  if (event.key === 'Home') turn(0, 0);
  else if (moves[event.key]) turn(yaw + moves[event.key][0], pitch + moves[event.key][1]);
  else return;
  event.preventDefault();
});
stage.addEventListener('dblclick', () => turn(0, 0));
watch('value', show);
show();
