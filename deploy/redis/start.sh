#!/bin/sh
# Starts Redis with the users of users.acl, whose passwords come from the environment: WORKER_PASSWORD and so on, or
# from the files that WORKER_PASSWORD_FILE and so on name. They are kept hashed, in a file that no other user reads.
# The users SCALER and METRICS, for what scales workers, are there only where they have a password.
# What is given to this script is given to redis-server. With HOLD_MISCONFIGURED=1 it does not end with status 78 where a
# password is missing, but waits to be stopped: a container that ends is restarted, for ever.
set -eu
umask 077
here=$(dirname "$0")
users=${USERS_FILE:-/run/redis/users.acl}
cp "$here/users.acl" "$users"
for user in scaler metrics; do
	name=$(echo "$user" | tr a-z A-Z)_PASSWORD
	eval "given=\${$name:-}\${${name}_FILE:-}"
	[ -n "$given" ] || sed -i "/^user $user /d" "$users"
done
for name in $(sed -n 's/^user .* on ${\([A-Z_]*\)}.*/\1/p' "$users"); do
	eval "password=\${$name:-}" "file=\${${name}_FILE:-}"
	[ -z "$file" ] || password=$(cat "$file")
	[ -n "$password" ] || {
		echo "start.sh: set $name, or ${name}_FILE to a file that holds it" >&2
		[ -z "${HOLD_MISCONFIGURED:-}" ] || exec sleep infinity
		exit 78
	}
	hash=$(printf %s "$password" | sha256sum | cut -d ' ' -f 1)
	sed -i "s/\${$name}/#$hash/" "$users"
done
exec "${REDIS_SERVER:-redis-server}" "$@" --aclfile "$users"
