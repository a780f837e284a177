// A camera that stays on: every press of "Take photo" sends one JPEG as a data URI.
const video = element.querySelector('video');
const start = element.querySelector('.m3-camera-start');
const snap = element.querySelector('.m3-camera-snap');
const said = element.querySelector('.m3-camera-said');
const LONGEST_SIDE = 1600;
let stream = null;

function off() {
  if (stream) stream.getTracks().forEach((track) => track.stop());
  stream = null;
  video.srcObject = null;
  snap.disabled = true;
  start.textContent = 'Start camera';
}

const hidden = () => document.hidden || !element.offsetParent;

function leave() {
  if (stream && hidden()) off();
}

async function on() {
  start.disabled = true; // a second press while the browser asks would start a second stream that nobody stops
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: 'user', width: { ideal: 1280 } } });
    leave(); // the tab may have been left while the browser asked
    if (stream) {
      for (const track of stream.getTracks()) track.addEventListener('ended', off);
      video.srcObject = stream;
      await video.play();
    }
    if (stream) {
      snap.disabled = false;
      start.textContent = 'Stop camera';
      said.textContent = 'Turn your head a little between photos.';
    }
  } catch (error) {
    off();
    const help = isSecureContext ? 'allow it in the browser' : 'browsers give it to https pages only';
    if (!hidden()) said.textContent = `The camera is not available: ${help}, or drop photos instead.`;
  }
  start.disabled = false;
}

start.addEventListener('click', () => (stream ? off() : on()));
snap.addEventListener('click', () => {
  if (!stream) return;
  const scale = Math.min(1, LONGEST_SIDE / Math.max(video.videoWidth, video.videoHeight));
  const canvas = document.createElement('canvas');
  canvas.width = Math.round(video.videoWidth * scale);
  canvas.height = Math.round(video.videoHeight * scale);
  canvas.getContext('2d').drawImage(video, 0, 0, canvas.width, canvas.height);
  trigger('snap', { image: canvas.toDataURL('image/jpeg', 0.92) });
  said.textContent = 'Photo taken. Turn your head a little for the next one.';
});
// It goes off with its tab: nobody is filmed by a page they do not look at. What is no longer laid out has no size, which
// a ResizeObserver reports also where it was out of sight before.
new ResizeObserver(leave).observe(element);
document.addEventListener('visibilitychange', leave);
window.addEventListener('pagehide', off);
