/** Runs before anything else on the page: of all addresses, only the page's own and those that a person opened may be connected to from now on. */
(() => {
  let opened: string[] = [];
  try {
    const kept: unknown = JSON.parse(localStorage.getItem('opened') ?? '[]');
    if (Array.isArray(kept)) opened = kept.filter((each) => typeof each === 'string' && /^https?:\/\/[\w.:[\]-]+$/.test(each));
  } catch {} // nothing is kept here, or it is none of ours
  const policy = document.createElement('meta');
  policy.httpEquiv = 'Content-Security-Policy';
  policy.content = `connect-src 'self' blob: ${opened.join(' ')}`;
  document.head.append(policy);
  (window as { opened?: readonly string[] }).opened = opened;
})();
