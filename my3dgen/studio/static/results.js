// Where a task's results lie below its start button, as on a phone, shows them once they are there.
() => {
  const results = document.getElementById('KEY-results');
  const start = document.getElementById('KEY-start');
  const tops = [results, start].map((element) => element.getBoundingClientRect().top);
  if (tops[0] > tops[1]) results.scrollIntoView({ behavior: 'smooth', block: 'start' });
}
