#!/bin/sh
# Stands in for systemd where a test's host has none: knows the two units that preparing a host starts, and writes down
# what it was asked.
set -eu
verb=
unit=
for word in "$@"; do
  case $word in
    -*) ;;
    *) if [ -z "$verb" ]; then verb=$word; else unit=$word; fi ;;
  esac
done
echo "$verb $unit" >>/run/systemctl.asked

k3s_runs() { kill -0 "$(cat /run/k3s.pid 2>/dev/null)" 2>/dev/null; }
stop_k3s() {
  if k3s_runs; then
    kill "$(cat /run/k3s.pid)"
    while k3s_runs; do sleep 0.1; done
  fi
}

case "$verb $unit" in
  "daemon-reload ") ;;
  "enable k3s.service") touch /run/k3s.enabled ;;
  "is-active k3s.service") k3s_runs ;;
  "stop k3s.service") stop_k3s ;;
  "restart k3s.service")
    stop_k3s
    line=$(sed -n 's/^ExecStart=//p' /etc/systemd/system/k3s.service)
    # shellcheck disable=SC2086
    setsid $line </dev/null >>/var/log/k3s.log 2>&1 &
    echo $! >/run/k3s.pid
    # As Type=notify has it: it is started once it is ready.
    until /usr/local/bin/k3s kubectl get --raw /readyz >/dev/null 2>&1; do
      k3s_runs || exit 1
      sleep 0.2
    done
    ;;
  "is-active postgresql@15-main.service") pg_ctlcluster 15 main status >/dev/null ;;
  "restart postgresql@15-main.service")
    install -d -m 2775 -o postgres -g postgres /run/postgresql
    action=restart
    pg_ctlcluster 15 main status >/dev/null || action=start
    pg_ctlcluster --skip-systemctl-redirect 15 main "$action" </dev/null >/dev/null 2>&1
    ;;
  *)
    echo "systemctl: $verb $unit must be what preparing a host asks for" >&2
    exit 1
    ;;
esac
