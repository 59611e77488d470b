/**
 * Calls `gone` once when the npm that started us has ended without telling, as with kill -9. Does nothing when
 * nobody started us through the bootstrap: a process that outlives its shell is then meant to.
 */
export function onParentGone(parent: string | undefined, gone: () => void): void {
  if (process.channel) {
    // The bootstrap waits beside us and watches npm. The channel breaks with it.
    process.once('disconnect', gone);
    process.channel.unref();
    return;
  }
  // The bootstrap became this process. Anybody else who inherited the variable has another process id.
  const [pid, npm] = (parent ?? '').split(':').map(Number);
  if (pid !== process.pid) return;
  const watch = setInterval(() => {
    if (process.ppid === npm) return;
    clearInterval(watch);
    gone();
  }, 500);
  watch.unref();
}
