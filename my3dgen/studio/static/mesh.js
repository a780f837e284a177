// Shows a GLB with a colour and a normal at each vertex, as the exporter writes it; drag or arrow keys turn it.
// value: {key, path}: a file of this session on the server
const KEY_STEP = 0.15;
const RADIANS_PER_WIDTH = 4;
const FOCUS = 2.4; // focal length in half heights
const AWAY = 2.9; // distance of the camera in radii
const root = element.querySelector('.m3-mesh');
const canvas = root.querySelector('canvas');
const said = root.querySelector('p');
const WAITING = said.textContent;
const gl = canvas.getContext('webgl2', { antialias: true, preserveDrawingBuffer: true });
let shape = null;
let key = null;
let yaw = 0;
let pitch = 0;
let drag = null;

const VERTEX = `#version 300 es
in vec3 position, normal, colour;
uniform vec3 middle;
uniform float size, aspect;
uniform mat3 turn;
out vec3 tone, facing;
void main() {
  vec3 p = turn * (position - middle) / size;
  float away = ${AWAY.toFixed(2)} - p.z;
  gl_Position = vec4(${FOCUS.toFixed(2)} * p.x / aspect, ${FOCUS.toFixed(2)} * p.y, away - 1.5, away);
  tone = colour;
  facing = turn * normal;
}`;
const FRAGMENT = `#version 300 es
precision highp float;
in vec3 tone, facing;
out vec4 colour;
void main() {
  // The colours hold the photo's light already: only enough shading that the shape is seen.
  float light = 0.72 + 0.36 * max(normalize(facing).z, 0.0);
  colour = vec4(pow(clamp(tone, 0.0, 1.0), vec3(1.0 / 2.2)) * light, 1.0);
}`;

function program() {
  const made = gl.createProgram();
  for (const [kind, source] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
    const shader = gl.createShader(kind);
    gl.shaderSource(shader, source);
    gl.compileShader(shader);
    gl.attachShader(made, shader);
  }
  gl.linkProgram(made);
  return made;
}

function parts(buffer) {
  // glTF 2.0 binary: a header of 12 bytes, then the description, then the numbers.
  const header = new DataView(buffer);
  const length = header.getUint32(12, true);
  const tree = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 20, length)));
  const start = 20 + length + 8;
  const read = (index, Kind, width) => {
    const accessor = tree.accessors[index];
    const offset = (tree.bufferViews[accessor.bufferView].byteOffset || 0) + (accessor.byteOffset || 0);
    return new Kind(buffer.slice(start + offset, start + offset + accessor.count * width * 4));
  };
  const { attributes, indices } = tree.meshes[0].primitives[0];
  const { min, max } = tree.accessors[attributes.POSITION];
  return {
    position: read(attributes.POSITION, Float32Array, 3),
    normal: read(attributes.NORMAL, Float32Array, 3),
    colour: read(attributes.COLOR_0, Float32Array, 3),
    indices: read(indices, Uint32Array, 1),
    middle: min.map((low, axis) => (low + max[axis]) / 2),
    size: Math.hypot(...min.map((low, axis) => max[axis] - low)) / 2,
  };
}

function upload(mesh) {
  const made = shape ? shape.program : program();
  if (shape) shape.buffers.forEach((buffer) => gl.deleteBuffer(buffer));
  const buffers = ['position', 'normal', 'colour'].map((name) => {
    const buffer = gl.createBuffer();
    gl.bindBuffer(gl.ARRAY_BUFFER, buffer);
    gl.bufferData(gl.ARRAY_BUFFER, mesh[name], gl.STATIC_DRAW);
    const place = gl.getAttribLocation(made, name);
    gl.enableVertexAttribArray(place);
    gl.vertexAttribPointer(place, 3, gl.FLOAT, false, 0, 0);
    return buffer;
  });
  const index = gl.createBuffer();
  gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, index);
  gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, mesh.indices, gl.STATIC_DRAW);
  shape = { program: made, buffers: [...buffers, index], count: mesh.indices.length, ...mesh };
}

function forget() {
  // Nobody may turn a head any more that was deleted.
  if (!shape) return;
  shape.buffers.forEach((buffer) => gl.deleteBuffer(buffer));
  shape = null;
  gl.clearColor(0, 0, 0, 0);
  gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
}

function draw() {
  if (!gl || !shape) return;
  const ratio = Math.min(window.devicePixelRatio || 1, 2);
  canvas.width = Math.max(1, canvas.clientWidth * ratio);
  canvas.height = Math.max(1, canvas.clientHeight * ratio);
  gl.viewport(0, 0, canvas.width, canvas.height);
  gl.clearColor(0, 0, 0, 0);
  gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
  gl.enable(gl.DEPTH_TEST);
  gl.useProgram(shape.program);
  const at = (name) => gl.getUniformLocation(shape.program, name);
  const [a, b, c, d] = [Math.cos(yaw), Math.sin(yaw), Math.cos(pitch), Math.sin(pitch)];
  // About y, then about x; by columns.
  gl.uniformMatrix3fv(at('turn'), false, [a, b * d, -b * c, 0, c, d, b, -a * d, a * c]);
  gl.uniform3fv(at('middle'), shape.middle);
  gl.uniform1f(at('size'), shape.size);
  gl.uniform1f(at('aspect'), canvas.width / canvas.height);
  gl.drawElements(gl.TRIANGLES, shape.count, gl.UNSIGNED_INT, 0);
}

async function show() {
  const value = props.value;
  if (!value || !value.path) {
    key = null;
    root.classList.remove('m3-ready');
    said.textContent = WAITING;
    forget();
    return;
  }
  if (value.key === key) return;
  key = value.key;
  if (!gl) {
    said.textContent = 'This browser cannot show meshes; the files below can be downloaded all the same.';
    return;
  }
  const { root: base, api_prefix: prefix = '/gradio_api' } = window.gradio_config;
  const answer = await fetch(`${base}${prefix}/file=${value.path}`).catch(() => null);
  if (!answer || !answer.ok) {
    key = null;
    said.textContent = 'The mesh could not be loaded: please make it once more.';
    root.classList.remove('m3-ready');
    return;
  }
  const mesh = parts(await answer.arrayBuffer());
  if (key !== value.key) return;
  upload(mesh);
  yaw = pitch = 0;
  root.classList.add('m3-ready');
  draw();
}

function turn(newYaw, newPitch) {
  yaw = newYaw;
  pitch = Math.min(Math.max(newPitch, -1.4), 1.4);
  requestAnimationFrame(draw);
}

canvas.addEventListener('pointerdown', (event) => {
  if (!shape || drag || event.button !== 0) return;
  drag = { id: event.pointerId, x: event.clientX, y: event.clientY, yaw, pitch };
  canvas.setPointerCapture(event.pointerId);
});
canvas.addEventListener('pointermove', (event) => {
  if (!drag || drag.id !== event.pointerId) return;
  const scale = RADIANS_PER_WIDTH / Math.max(canvas.clientWidth, 1);
  turn(drag.yaw + (event.clientX - drag.x) * scale, drag.pitch + (event.clientY - drag.y) * scale);
});
for (const name of ['pointerup', 'pointercancel', 'lostpointercapture']) {
  canvas.addEventListener(name, (event) => {
    if (drag && drag.id === event.pointerId) drag = null;
  });
}
canvas.addEventListener('keydown', (event) => {
  if (!shape) return;
  const moves = {
    ArrowLeft: [-KEY_STEP, 0],
    ArrowRight: [KEY_STEP, 0],
    ArrowUp: [0, -KEY_STEP],
    ArrowDown: [0, KEY_STEP],
  };
  if (event.key === 'Home') turn(0, 0);
  else if (moves[event.key]) turn(yaw + moves[event.key][0], pitch + moves[event.key][1]);
  else return;
  event.preventDefault();
});
// A phone may take the graphics memory of a page in the background.
canvas.addEventListener('webglcontextlost', (event) => {
  event.preventDefault(); // or it would never come back
  shape = key = null;
  root.classList.remove('m3-ready');
  said.textContent = 'The browser took the memory of this view away; the mesh comes back with it.';
});
canvas.addEventListener('webglcontextrestored', () => {
  shape = key = null; // what was sent in between went nowhere
  show();
});
new ResizeObserver(() => requestAnimationFrame(draw)).observe(canvas);
watch('value', show);
show();
