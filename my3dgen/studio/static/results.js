// Where a task's results lie below its start button, as on a phone, shows how it went and what came of it.
() => {
  const [start, panel, results] = ['start', 'panel', 'results'].map((part) => document.getElementById(`KEY-${part}`));
  if (!start || !panel || !results) return;
  if (results.getBoundingClientRect().top <= start.getBoundingClientRect().top) return;
  const still = matchMedia('(prefers-reduced-motion: reduce)').matches;
  panel.scrollIntoView({ behavior: still ? 'auto' : 'smooth', block: 'start' });
}
