// Keeps the chosen tab in sight where the row of tabs is wider than the page, whoever chose it.
() => {
  const row = document.querySelector('#tabs [role="tablist"]');
  const show = () => {
    const tab = row.querySelector('[aria-selected="true"]');
    if (tab) row.scrollTo({ left: tab.offsetLeft - row.offsetLeft - (row.clientWidth - tab.offsetWidth) / 2 });
  };
  new MutationObserver(show).observe(row, { subtree: true, attributeFilter: ['aria-selected'] });
}
