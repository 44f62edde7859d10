# How a PostgreSQL of ours is reached, for postgresql.sh and standby.sh: put in place of their line that names it.

# access_rules <administrator>: a role gets into the database whose group role it is a member of, over TLS and by its
# password, and into no other. In quotes an administrator called "all" is that role and not everybody.
access_rules() {
  cat <<end
local   all      postgres              peer
hostssl all      "$1"   all      scram-sha-256
hostssl samerole all           all      scram-sha-256
host    all      all           all      reject
end
}

# tls_settings <folder>: of a server whose certificate and key lie in that folder.
tls_settings() {
  cat <<end
ssl = on
ssl_cert_file = '$1/server.crt'
ssl_key_file = '$1/server.key'
ssl_min_protocol_version = 'TLSv1.3'
password_encryption = 'scram-sha-256'
# A failing statement may hold a password: it is not written to the log.
log_min_error_statement = panic
end
}
