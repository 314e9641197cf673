#!/bin/sh
# Makes deploy/secrets, a file for each secret that docker-compose.yml hands to the containers that need it, with random
# passwords. What is there already stays. With --simulator: the accounts of the simulator, and a .env that leads to it.
# The folder is for its owner alone; the files in it are not, because each container reads its own as another user.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
folder=${SECRETS:-$here/secrets}
umask 077
mkdir -p "$folder"
umask 022

random() {
	od -An -N24 -tx1 /dev/urandom | tr -d ' \n'
}

# keep NAME CONTENT: a file, unless there is one.
keep() {
	[ -e "$folder/$1" ] || printf '%s\n' "$2" >"$folder/$1"
}

for user in worker producer consumer operator flower; do
	keep "${user}_password" "$(random)"
	password=$(cat "$folder/${user}_password")
	case $password in
	*[!A-Za-z0-9._~-]* | '')
		echo "secrets.sh: $folder/${user}_password: letters, digits and . _ ~ - alone, as it stands in a URL too" >&2
		exit 78
		;;
	esac
	# An address of another Redis stays.
	if ! grep -qvs '@redis:6379/0$' "$folder/${user}_redis_url"; then
		printf 'redis://%s:%s@redis:6379/0\n' "$user" "$password" >"$folder/${user}_redis_url"
	fi
done
keep flower_login "admin:$(random)"
keep grafana_password "$(random)"
[ -e "$folder/sentry_dsn" ] || : >"$folder/sentry_dsn"

if [ "${1:-}" = --simulator ]; then
	# From the providers' public documentation: they open nothing.
	keep provider_accounts.json '{
  "opay": {"default": {"merchant_id": "256612345678901", "private_key": "OPAYPRV16160617080050.388604510744898"}},
  "afterpay": {"default": {"client_id": "afterpay", "client_secret": "merchantABC"}}
}'
	settings='COMPOSE_PROFILES=simulator
OPAY_BASE_URL=http://simulator:8090
AFTERPAY_BASE_URL=http://simulator:8090
ALLOW_PLAIN_HTTP=1'
	if [ -e "$here/../.env" ]; then
		printf 'There is a .env already: see that it says\n%s\n' "$settings"
	else
		printf '%s\n' "$settings" >"$here/../.env"
	fi
else
	keep provider_accounts.json '{}'
fi
echo "The secrets are in $folder."
