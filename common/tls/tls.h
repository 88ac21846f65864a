/* SPDX-License-Identifier: Apache-2.0 */
/* TLS over memory: OpenSSL, the only place that sees libssl. TLS 1.3, ALPN "bxc/1". Prefix: bxc_tls. */
#pragma once

#include "common/base/buf.h"
#include "common/base/err.h"

typedef struct bxc_tls_config bxc_tls_config;        /* reference-counted SSL_CTX; any thread */
typedef struct bxc_tls bxc_tls;                      /* one connection; one thread at a time */

typedef struct bxc_tls_files {
	const char *ca_file;         /* PEM; peers must chain to it. Client: NULL = system store */
	const char *cert_file, *key_file;   /* server: needed; client: optional */
	bool require_peer_cert;      /* server: refuse peers without a certificate of ca_file */
} bxc_tls_files;
BXC_MUST_CHECK int bxc_tls_config_new(bool is_server, const bxc_tls_files *f, bxc_tls_config **ret, bxc_err **err);
bxc_tls_config *bxc_tls_config_ref(bxc_tls_config *c);
void bxc_tls_config_unref(bxc_tls_config *c);
BXC_DEFINE_CLEANUP(bxc_tls_config, bxc_tls_config_unref);
/* Loads the files again and uses them for new connections; the old ones stay on failure. */
BXC_MUST_CHECK int bxc_tls_config_reload(bxc_tls_config *c, bxc_err **err);

/* Would a client that trusts ca_file (NULL: the system's store) take this server, reached as `host`? A handshake in memory. */
BXC_MUST_CHECK int bxc_tls_check_server(const bxc_tls_files *server, const char *ca_file, const char *host, bxc_err **err);

/* server_name: the host that a client wants to reach: SNI and host check (name or IP literal). */
BXC_MUST_CHECK int bxc_tls_new(bxc_tls_config *c, const char *server_name, bxc_tls **ret, bxc_err **err);
void bxc_tls_free(bxc_tls *t);
BXC_DEFINE_CLEANUP(bxc_tls, bxc_tls_free);
/* Feeds received cipher bytes and appends what came out: plain bytes to `plain`, bytes to send to `cipher_out`.
 * PERMISSION_DENIED for certificate problems, with what is wrong; DATA_LOSS for a broken record; UNAVAILABLE
 * when the peer ended the session (close_notify). */
BXC_MUST_CHECK int bxc_tls_feed(bxc_tls *t, bxc_slice cipher_in, bxc_buf *plain, bxc_buf *cipher_out, bxc_err **err);
/* Encrypts plain bytes into cipher_out (queued until the handshake is over). */
BXC_MUST_CHECK int bxc_tls_write(bxc_tls *t, bxc_slice plain, bxc_buf *cipher_out, bxc_err **err);
/* Client: produces the first flight. */
BXC_MUST_CHECK int bxc_tls_start(bxc_tls *t, bxc_buf *cipher_out, bxc_err **err);
bool bxc_tls_is_established(const bxc_tls *t);
char *bxc_tls_peer_name(const bxc_tls *t);           /* CN of the verified peer certificate; owned; NULL: none */
