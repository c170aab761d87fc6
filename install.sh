#!/bin/sh
# Installs a Blacktree daemon as a systemd service: program, user, settings file, unit. Can be run again at any time:
# it replaces programs and units, and keeps settings.
#
# The script consists of functions, and its last line calls the first one: an incomplete download does nothing.

blacktree_install() {
  set -eu
  umask 022
  parse_arguments "$@"
  if [ "$action" = uninstall ]; then
    check_permission
    uninstall
    return
  fi
  find_files
  check_permission
  make_accounts
  install_files
  enable_service
  say_next_steps
}

usage() {
  cat <<'END'
Usage: install.sh orchestrator|worker [options]

  --from DIR     folder of the compiled programs and their .sha256 files (default ./dist)
  --region NAME  worker: region that it builds in; each region is a separate service
  --root DIR     install below DIR instead of /, for images and packages; skips accounts and systemctl
  --uninstall    remove program and units; keeps settings, accounts and /var/lib/blacktree
  --help         show this text
END
}

fail() {
  printf 'install.sh: %s\n' "$1" >&2
  exit "${2:-1}"
}

say() {
  printf '%s\n' "$*"
}

wrong_usage() {
  usage >&2
  fail "$1" 2
}

parse_arguments() {
  role='' from=./dist region='' root='' action=install
  while [ $# -gt 0 ]; do
    case $1 in
      orchestrator | worker)
        [ -z "$role" ] || wrong_usage "only one of orchestrator and worker at a time"
        role=$1
        ;;
      --from | --region | --root)
        [ -n "${2:-}" ] || wrong_usage "$1 needs a value"
        case $1 in
          --from) from=$2 ;;
          --region) region=$2 ;;
          --root) root=${2%/} ;;
        esac
        shift
        ;;
      --uninstall) action=uninstall ;;
      --help | -h)
        usage
        exit 0
        ;;
      *) wrong_usage "unknown argument: $1" ;;
    esac
    shift
  done
  [ -n "$role" ] || wrong_usage "say what to install: orchestrator or worker"
  if [ "$role" = worker ] && [ "$action" = install ]; then
    [ -n "$region" ] || wrong_usage "a worker needs --region, such as --region us-east-1"
    case $region in
      -* | _* | *[!A-Za-z0-9_-]*) wrong_usage "--region $region: expected letters, digits, - and _" ;;
    esac
  fi
  program=blacktree-$role account=blacktree
  [ "$role" = orchestrator ] || account=blacktree-worker
  bin_dir=$root/usr/local/bin
  unit_dir=$root/etc/systemd/system
  config_dir=$root/etc/blacktree
  if [ "$role" = worker ]; then
    unit=blacktree-worker@.service service=blacktree-worker@$region.service
    settings=$config_dir/worker-$region.env
  else
    unit=blacktree-orchestrator.service service=$unit
    settings=$config_dir/orchestrator.env
  fi
}

# All checks run before the first change.
find_files() {
  [ -d "$from" ] || fail "folder $from not found; compile with \"bun run build\", or name another folder with --from"
  case $(uname -s)-$(uname -m) in
    Linux-x86_64) platform=linux-x64 ;;
    Linux-aarch64 | Linux-arm64) platform=linux-arm64 ;;
    *) fail "Blacktree runs on Linux on x86_64 and arm64, and this is $(uname -s) on $(uname -m)" ;;
  esac
  programs=$from
  [ -f "$programs/$program" ] || programs=$from/$platform
  for name in "$program" blacktree; do
    [ -f "$programs/$name" ] || fail "$name not found in $from or $from/$platform"
    verify_checksum "$programs/$name"
  done
  find_units
}

verify_checksum() {
  [ -f "$1.sha256" ] || fail "$1.sha256 is missing, so $1 cannot be verified"
  expected=$(sed -n '1s/[^0-9a-f].*//p' "$1.sha256")
  found=$(sha256sum <"$1" | cut -d ' ' -f 1)
  [ "$expected" = "$found" ] ||
    fail "$1 does not match $1.sha256: expected $expected, found $found; nothing was installed"
}

find_units() {
  for folder in "$from/systemd" "$(dirname "$0")/systemd" ./systemd; do
    units=$folder
    [ ! -f "$units/$unit" ] || return 0
  done
  fail "$unit not found in $from/systemd, beside this script or in ./systemd"
}

check_permission() {
  [ -n "$root" ] || [ "$(id -u)" = 0 ] || fail "installing requires root; run it with sudo"
}

make_accounts() {
  [ -z "$root" ] || return 0
  getent group "$account" >/dev/null || groupadd --system "$account"
  getent passwd "$account" >/dev/null ||
    useradd --system --gid "$account" --home-dir /var/lib/blacktree --no-create-home --shell /usr/sbin/nologin "$account"
  [ "$role" = worker ] || return 0
  # The worker's unit adds this group. Docker's packages create it too, before or after this script.
  getent group docker >/dev/null || groupadd --system docker
}

install_files() {
  mkdir -p "$bin_dir" "$unit_dir" "$config_dir"
  for name in "$program" blacktree; do install_file "$programs/$name" "$bin_dir/$name" 0755; done
  for name in "$unit" blacktree.target; do install_file "$units/$name" "$unit_dir/$name" 0644; done
  if [ -e "$settings" ]; then
    say "kept       $settings"
  else
    "${role}_settings" >"$settings.new"
    chmod 0640 "$settings.new"
    [ -n "$root" ] || chown "root:$account" "$settings.new"
    mv "$settings.new" "$settings"
    say "installed  $settings"
  fi
  # Both accounts read files below it.
  chmod 0755 "$config_dir"
}

# By rename: a program that runs keeps its old file, and a half-written file is never visible.
install_file() {
  cp "$1" "$2.new"
  chmod "$3" "$2.new"
  mv "$2.new" "$2"
  say "installed  $2"
}

orchestrator_settings() {
  cat <<END
# Settings of the orchestrator, NAME=value on each line; docs/settings.md explains them all.
# This shows the effective ones:  blacktree-orchestrator --check-config --env-file $settings

# Required.
RABBITMQ_URL=
REDIS_URL=

#BLACKTREE_REGION=us-east-1

# Workers on other machines need TLS on both sides.
#BLACKTREE_TLS_CA=/etc/blacktree/tls/ca.pem
#BLACKTREE_TLS_CERT=/etc/blacktree/tls/orchestrator.pem
#BLACKTREE_TLS_KEY=/etc/blacktree/tls/orchestrator.key

# The admin API listens only on this machine unless it has a token.
#BLACKTREE_ADMIN_TOKEN=
#BLACKTREE_ADMIN_LISTEN=127.0.0.1:8080
END
}

worker_settings() {
  cat <<END
# Settings of the worker for $region, NAME=value on each line; docs/settings.md explains them all.
# This shows the effective ones:  blacktree-worker --check-config --env-file $settings
# BLACKTREE_WORKER_REGION and BLACKTREE_WORK_DIR come from the service.

# Required: host:port of each orchestrator, comma separated.
BLACKTREE_ORCHESTRATOR_ADDR=

#BLACKTREE_WORKER_SLOTS=1

# Orchestrators on other machines need TLS on both sides.
#BLACKTREE_TLS_CA=/etc/blacktree/tls/ca.pem
#BLACKTREE_TLS_CERT=/etc/blacktree/tls/worker.pem
#BLACKTREE_TLS_KEY=/etc/blacktree/tls/worker.key
#BLACKTREE_WORKER_LISTEN=0.0.0.0:6000

# On EC2 the instance's role is used when these are not set.
#AWS_ACCESS_KEY_ID=
#AWS_SECRET_ACCESS_KEY=
END
}

has_systemd() {
  [ -z "$root" ] && [ -d /run/systemd/system ]
}

enable_service() {
  has_systemd || return 0
  systemctl daemon-reload
  systemctl --quiet enable blacktree.target "$service"
}

say_next_steps() {
  say
  say "Next: fill in $settings"
  if has_systemd; then
    say "      systemctl restart $service"
    say "      journalctl --follow --unit $service"
  fi
}

uninstall() {
  if has_systemd; then
    for wanted in "$unit_dir"/blacktree.target.wants/"${unit%.service}"*.service; do
      # A pattern without a match is not expanded.
      [ -L "$wanted" ] || continue
      systemctl --quiet disable --now "${wanted##*/}"
    done
  fi
  remove_file "$unit_dir/$unit"
  remove_file "$bin_dir/$program"
  if [ ! -e "$bin_dir/blacktree-orchestrator" ] && [ ! -e "$bin_dir/blacktree-worker" ]; then
    if has_systemd; then systemctl --quiet disable blacktree.target; fi
    remove_file "$unit_dir/blacktree.target"
    remove_file "$bin_dir/blacktree"
  fi
  if has_systemd; then systemctl daemon-reload; fi
  say "kept: $config_dir, /var/lib/blacktree, the accounts"
}

remove_file() {
  [ -e "$1" ] || return 0
  rm -f "$1"
  say "removed    $1"
}

blacktree_install "$@"
