# bash completion for berth. Generated from server/config/options.go; to change it, run go test ./scripts -run Documents -update-docs.

_berth() {
	local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]}
	COMPREPLY=()
	case $before in
	--bind) return ;;
	--protected-mode)
		mapfile -t COMPREPLY < <(compgen -W 'no yes' -- "$word")
		return
		;;
	--port) return ;;
	--unixsocketperm) return ;;
	--tcp-backlog) return ;;
	--reuse-port)
		mapfile -t COMPREPLY < <(compgen -W 'no yes' -- "$word")
		return
		;;
	--tcp-keepalive) return ;;
	--announce-ip) return ;;
	--announce-port) return ;;
	--proxy-protocol-networks) return ;;
	--listen) return ;;
	--loops) return ;;
	--tls-port) return ;;
	--tls-key-file-pass) return ;;
	--tls-auth-clients)
		mapfile -t COMPREPLY < <(compgen -W 'no yes optional' -- "$word")
		return
		;;
	--tls-auth-clients-user)
		mapfile -t COMPREPLY < <(compgen -W 'off CN' -- "$word")
		return
		;;
	--tls-protocols) return ;;
	--tls-ciphers) return ;;
	--tls-ciphersuites) return ;;
	--tls-session-caching)
		mapfile -t COMPREPLY < <(compgen -W 'no yes' -- "$word")
		return
		;;
	--tls-handshake-timeout) return ;;
	--maxclients) return ;;
	--timeout) return ;;
	--auth-timeout) return ;;
	--maxmemory-clients) return ;;
	--proto-max-bulk-len) return ;;
	--client-query-buffer-limit) return ;;
	--client-output-buffer-limit) return ;;
	--client-pipeline-limit) return ;;
	--transaction-max-bytes) return ;;
	--transaction-max-commands) return ;;
	--pubsub-sharing)
		mapfile -t COMPREPLY < <(compgen -W 'no yes' -- "$word")
		return
		;;
	--blocking-share)
		mapfile -t COMPREPLY < <(compgen -W 'no yes' -- "$word")
		return
		;;
	--blocking-lanes-max) return ;;
	--lease-commands) return ;;
	--orphan-pop)
		mapfile -t COMPREPLY < <(compgen -W 'push-back drop' -- "$word")
		return
		;;
	--enable-debug-command)
		mapfile -t COMPREPLY < <(compgen -W 'no yes' -- "$word")
		return
		;;
	--shutdown-timeout) return ;;
	--shutdown-delay) return ;;
	--shutdown-blocked)
		mapfile -t COMPREPLY < <(compgen -W 'nil unblocked' -- "$word")
		return
		;;
	--take-over-drain) return ;;
	--backend) return ;;
	--backend-user) return ;;
	--backend-password) return ;;
	--backend-tls-key-file-pass) return ;;
	--backend-tls-server-name) return ;;
	--backend-tls-insecure-skip-verify)
		mapfile -t COMPREPLY < <(compgen -W 'no yes' -- "$word")
		return
		;;
	--backend-connect-timeout-ms) return ;;
	--backend-timeout-ms) return ;;
	--max-redirects) return ;;
	--topology-refresh-interval) return ;;
	--read-from)
		mapfile -t COMPREPLY < <(compgen -W 'primary prefer-replica replica any nearest' -- "$word")
		return
		;;
	--read-own-writes)
		mapfile -t COMPREPLY < <(compgen -W 'no yes' -- "$word")
		return
		;;
	--replica-max-lag) return ;;
	--replica-max-lag-bytes) return ;;
	--zone) return ;;
	--cache)
		mapfile -t COMPREPLY < <(compgen -W 'no yes' -- "$word")
		return
		;;
	--cache-hot-rate) return ;;
	--cache-keys) return ;;
	--cache-not-keys) return ;;
	--cache-max-memory) return ;;
	--cache-max-value) return ;;
	--cache-ttl-max) return ;;
	--private_conn_pool_enabled)
		mapfile -t COMPREPLY < <(compgen -W '0 1' -- "$word")
		return
		;;
	--private_conn_idle_time_sec) return ;;
	--private_conn_pool_max_idle_per_db) return ;;
	--private_conn_pool_min_idle_per_db) return ;;
	--private-conn-pool-max-total) return ;;
	--pool-blocking-share) return ;;
	--pool-wait-timeout) return ;;
	--watch-max-idle) return ;;
	--pool-health-check-interval) return ;;
	--pool-dial-rate) return ;;
	--pool-dial-concurrency) return ;;
	--proxy-slowlog-slower-than) return ;;
	--proxy-slowlog-max-len) return ;;
	--admin-bind) return ;;
	--admin-port) return ;;
	--admin-pprof)
		mapfile -t COMPREPLY < <(compgen -W 'no yes' -- "$word")
		return
		;;
	--proxy-key-sampling) return ;;
	--loglevel)
		mapfile -t COMPREPLY < <(compgen -W 'debug verbose notice warning nothing' -- "$word")
		return
		;;
	--log-format)
		mapfile -t COMPREPLY < <(compgen -W 'text json' -- "$word")
		return
		;;
	esac
	if [[ $word == -* ]]; then
		mapfile -t COMPREPLY < <(compgen -W '--bind --protected-mode --port --unixsocket --unixsocketperm --tcp-backlog --reuse-port --tcp-keepalive --announce-ip --announce-port --proxy-protocol-networks --listen --loops --tls-port --tls-cert-file --tls-key-file --tls-key-file-pass --tls-ca-cert-file --tls-ca-cert-dir --tls-auth-clients --tls-auth-clients-user --tls-auth-clients-user-file --tls-protocols --tls-ciphers --tls-ciphersuites --tls-session-caching --tls-ticket-key-file --tls-handshake-timeout --maxclients --timeout --auth-timeout --maxmemory-clients --proto-max-bulk-len --client-query-buffer-limit --client-output-buffer-limit --client-pipeline-limit --transaction-max-bytes --transaction-max-commands --pubsub-sharing --blocking-share --blocking-lanes-max --lease-commands --orphan-pop --enable-debug-command --shutdown-timeout --shutdown-delay --shutdown-blocked --take-over-drain --take-over-socket --backend --backend-user --backend-password --backend-password-file --backend-tls-ca-file --backend-tls-cert-file --backend-tls-key-file --backend-tls-key-file-pass --backend-tls-server-name --backend-tls-insecure-skip-verify --backend-connect-timeout-ms --backend-timeout-ms --max-redirects --topology-refresh-interval --read-from --read-own-writes --replica-max-lag --replica-max-lag-bytes --zone --cache --cache-hot-rate --cache-keys --cache-not-keys --cache-max-memory --cache-max-value --cache-ttl-max --private_conn_pool_enabled --private_conn_idle_time_sec --private_conn_pool_max_idle_per_db --private_conn_pool_min_idle_per_db --private-conn-pool-max-total --pool-blocking-share --pool-wait-timeout --watch-max-idle --pool-health-check-interval --pool-dial-rate --pool-dial-concurrency --proxy-slowlog-slower-than --proxy-slowlog-max-len --admin-bind --admin-port --admin-pprof --proxy-key-sampling --loglevel --logfile --log-format -t --healthcheck --take-over --help --version' -- "$word")
	else
		compopt -o filenames
		mapfile -t COMPREPLY < <(compgen -f -- "$word")
	fi
}
complete -F _berth berth
