/* SPDX-License-Identifier: Apache-2.0 */
#include "common/tls/tls.h"

#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/base/str.h"

#define ALPN        "\x05" "bxc/1"
#define PENDING_MAX (1u << 20)       /* plain bytes that wait for the handshake */
#define READ_CHUNK  (16u << 10)

struct bxc_tls_config {
	_Atomic uint32_t refs;
	bool is_server, require_peer_cert;
	char *ca_file, *cert_file, *key_file;
	pthread_mutex_t lock;        /* protects ctx against a reload; leaf */
	SSL_CTX *ctx;
};

struct bxc_tls {
	SSL *ssl;
	BIO *in, *out;               /* owned by ssl */
	bxc_buf pending;             /* written before the handshake was over */
};

static int ssl_error(bxc_err **err, bxc_code code, const char *what)
{
	char text[256] = "unknown error";
	unsigned long e = ERR_peek_last_error();
	if (e)
		ERR_error_string_n(e, text, sizeof(text));
	ERR_clear_error();
	/* "error:0A000086:SSL routines::certificate verify failed": the last part is for people. */
	const char *last = strrchr(text, ':');
	return bxc_err_set(err, code, "%s: %s", what, last ? last + 1 : text);
}

static int select_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_len, const unsigned char *in, unsigned in_len, void *ud)
{
	unsigned char *chosen;
	(void)ssl;
	(void)ud;
	if (SSL_select_next_proto(&chosen, out_len, (const unsigned char *)ALPN, sizeof(ALPN) - 1, in, in_len) != OPENSSL_NPN_NEGOTIATED)
		return SSL_TLSEXT_ERR_ALERT_FATAL;
	*out = chosen;
	return SSL_TLSEXT_ERR_OK;
}

static int make_ctx(const bxc_tls_config *c, SSL_CTX **ret, bxc_err **err)
{
	SSL_CTX *ctx = SSL_CTX_new(c->is_server ? TLS_server_method() : TLS_client_method());
	int r = 0;
	if (!ctx)
		return ssl_error(err, BXC_INTERNAL, "TLS");
	SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION);
	SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION);
	SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS);
	SSL_CTX_set_ciphersuites(ctx, "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256");
	if (c->is_server)
		SSL_CTX_set_alpn_select_cb(ctx, select_alpn, NULL);
	else
		SSL_CTX_set_alpn_protos(ctx, (const unsigned char *)ALPN, sizeof(ALPN) - 1);
	if (c->cert_file && SSL_CTX_use_certificate_chain_file(ctx, c->cert_file) != 1)
		r = bxc_err_wrap(err, ssl_error(err, BXC_INVALID_ARGUMENT, "not a certificate chain in PEM"), "'%s'", c->cert_file);
	if (r >= 0 && c->key_file && SSL_CTX_use_PrivateKey_file(ctx, c->key_file, SSL_FILETYPE_PEM) != 1)
		r = bxc_err_wrap(err, ssl_error(err, BXC_INVALID_ARGUMENT, "not the key of the certificate"), "'%s'", c->key_file);
	if (r >= 0 && c->ca_file && SSL_CTX_load_verify_file(ctx, c->ca_file) != 1)
		r = bxc_err_wrap(err, ssl_error(err, BXC_INVALID_ARGUMENT, "no certificate in PEM"), "'%s'", c->ca_file);
	if (r >= 0 && !c->is_server && !c->ca_file)
		SSL_CTX_set_default_verify_paths(ctx);
	if (!c->is_server)
		SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
	else if (c->ca_file)
		SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | (c->require_peer_cert ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0), NULL);
	if (r < 0) {
		SSL_CTX_free(ctx);
		return r;
	}
	*ret = ctx;
	return 0;
}

int bxc_tls_config_new(bool is_server, const bxc_tls_files *f, bxc_tls_config **ret, bxc_err **err)
{
	if (is_server && (!f->cert_file || !f->key_file))
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "a certificate and its key are both needed");
	if (!f->cert_file != !f->key_file)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "a certificate and its key go together");
	bxc_tls_config *c = bxc_calloc(1, sizeof(*c));
	c->refs = 1;
	c->is_server = is_server;
	c->require_peer_cert = f->require_peer_cert;
	c->ca_file = bxc_strdup(f->ca_file);
	c->cert_file = bxc_strdup(f->cert_file);
	c->key_file = bxc_strdup(f->key_file);
	pthread_mutex_init(&c->lock, NULL);
	int r = make_ctx(c, &c->ctx, err);
	if (r < 0) {
		bxc_tls_config_unref(c);
		return r;
	}
	*ret = c;
	return 0;
}

bxc_tls_config *bxc_tls_config_ref(bxc_tls_config *c)
{
	if (c)
		atomic_fetch_add_explicit(&c->refs, 1, memory_order_relaxed);
	return c;
}

void bxc_tls_config_unref(bxc_tls_config *c)
{
	if (!c || atomic_fetch_sub_explicit(&c->refs, 1, memory_order_acq_rel) > 1)
		return;
	SSL_CTX_free(c->ctx);
	pthread_mutex_destroy(&c->lock);
	free(c->ca_file);
	free(c->cert_file);
	free(c->key_file);
	free(c);
}

int bxc_tls_config_reload(bxc_tls_config *c, bxc_err **err)
{
	SSL_CTX *fresh = NULL;
	int r = make_ctx(c, &fresh, err);
	if (r < 0)
		return r;
	pthread_mutex_lock(&c->lock);
	SSL_CTX *old = c->ctx;
	c->ctx = fresh;
	pthread_mutex_unlock(&c->lock);
	SSL_CTX_free(old);
	return 0;
}

static bool is_ip(const char *s)
{
	unsigned char b[16];
	return inet_pton(AF_INET, s, b) == 1 || inet_pton(AF_INET6, s, b) == 1;
}

int bxc_tls_new(bxc_tls_config *c, const char *server_name, bxc_tls **ret, bxc_err **err)
{
	bxc_tls *t = bxc_calloc(1, sizeof(*t));
	bxc_buf_init(&t->pending, PENDING_MAX);
	pthread_mutex_lock(&c->lock);
	t->ssl = SSL_new(c->ctx);
	pthread_mutex_unlock(&c->lock);
	t->in = BIO_new(BIO_s_mem());
	t->out = BIO_new(BIO_s_mem());
	bxc_check(t->ssl && t->in && t->out);
	BIO_set_mem_eof_return(t->in, -1);
	SSL_set_bio(t->ssl, t->in, t->out);
	int ok = 1;
	if (c->is_server) {
		SSL_set_accept_state(t->ssl);
	} else {
		SSL_set_connect_state(t->ssl);
		if (server_name && is_ip(server_name)) {
			ok = X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(t->ssl), server_name);
		} else if (server_name) {
			ok = SSL_set1_host(t->ssl, server_name);
			if (ok == 1)
				/* What the macro does, whose cast drops const. */
				SSL_ctrl(t->ssl, SSL_CTRL_SET_TLSEXT_HOSTNAME, TLSEXT_NAMETYPE_host_name, (void *)(uintptr_t)server_name);
		}
	}
	if (ok != 1) {
		bxc_tls_free(t);
		return ssl_error(err, BXC_INVALID_ARGUMENT, "TLS server name");
	}
	*ret = t;
	return 0;
}

void bxc_tls_free(bxc_tls *t)
{
	if (!t)
		return;
	SSL_free(t->ssl);
	bxc_buf_done(&t->pending);
	free(t);
}

static int drain(bxc_tls *t, bxc_buf *cipher_out, bxc_err **err)
{
	char *p;
	long n = BIO_get_mem_data(t->out, &p);
	if (n <= 0)
		return 0;
	int r = bxc_buf_append(cipher_out, p, (size_t)n, err);
	(void)BIO_reset(t->out);
	return r;
}

static int failure(bxc_tls *t, bxc_buf *cipher_out, bxc_err **err)
{
	long v = SSL_get_verify_result(t->ssl);
	/* The alert tells the peer why. */
	bxc_ignore(drain(t, cipher_out, NULL));
	if (v != X509_V_OK) {
		ERR_clear_error();
		return bxc_err_set(err, BXC_PERMISSION_DENIED, "certificate of the peer: %s", X509_verify_cert_error_string(v));
	}
	unsigned long e = ERR_peek_last_error();
	bool alert = ERR_GET_LIB(e) == ERR_LIB_SSL && ERR_GET_REASON(e) >= SSL_AD_REASON_OFFSET;
	return ssl_error(err, alert ? BXC_PERMISSION_DENIED : BXC_DATA_LOSS, "TLS");
}

static int write_plain(bxc_tls *t, const uint8_t *p, size_t n, bxc_buf *cipher_out, bxc_err **err)
{
	while (n) {
		size_t done = 0;
		/* A memory BIO takes everything: only a broken connection can fail here. */
		if (SSL_write_ex(t->ssl, p, n, &done) != 1)
			return failure(t, cipher_out, err);
		p += done;
		n -= done;
	}
	return drain(t, cipher_out, err);
}

/* Handshake steps as far as what was received allows; then what waited for its end. */
static int advance(bxc_tls *t, bxc_buf *cipher_out, bxc_err **err)
{
	if (SSL_is_init_finished(t->ssl))
		return 0;
	ERR_clear_error();
	int k = SSL_do_handshake(t->ssl);
	if (k != 1) {
		int e = SSL_get_error(t->ssl, k);
		if (e != SSL_ERROR_WANT_READ && e != SSL_ERROR_WANT_WRITE)
			return failure(t, cipher_out, err);
		return drain(t, cipher_out, err);
	}
	int r = drain(t, cipher_out, err);
	if (r >= 0 && t->pending.len) {
		r = write_plain(t, t->pending.data, t->pending.len, cipher_out, err);
		bxc_buf_done(&t->pending);
	}
	return r;
}

int bxc_tls_start(bxc_tls *t, bxc_buf *cipher_out, bxc_err **err)
{
	return advance(t, cipher_out, err);
}

int bxc_tls_feed(bxc_tls *t, bxc_slice cipher_in, bxc_buf *plain, bxc_buf *cipher_out, bxc_err **err)
{
	while (cipher_in.n) {
		int n = BIO_write(t->in, cipher_in.p, (int)BXC_MIN(cipher_in.n, (size_t)1 << 20));
		if (n <= 0)
			return bxc_err_set(err, BXC_RESOURCE_EXHAUSTED, "TLS: out of memory");
		cipher_in.p += n;
		cipher_in.n -= (size_t)n;
	}
	int r = advance(t, cipher_out, err);
	if (r < 0 || !SSL_is_init_finished(t->ssl))
		return r;
	for (;;) {
		size_t n = 0;
		r = bxc_buf_reserve(plain, READ_CHUNK, err);
		if (r < 0)
			return r;
		ERR_clear_error();
		int k = SSL_read_ex(t->ssl, plain->data + plain->len, READ_CHUNK, &n);
		if (k == 1) {
			plain->len += n;
			plain->data[plain->len] = 0;
			continue;
		}
		int e = SSL_get_error(t->ssl, k);
		if (e == SSL_ERROR_WANT_READ || e == SSL_ERROR_WANT_WRITE)
			return drain(t, cipher_out, err);
		if (e == SSL_ERROR_ZERO_RETURN)
			return bxc_err_set(err, BXC_UNAVAILABLE, "the peer closed the connection");
		return failure(t, cipher_out, err);
	}
}

int bxc_tls_write(bxc_tls *t, bxc_slice plain, bxc_buf *cipher_out, bxc_err **err)
{
	if (!SSL_is_init_finished(t->ssl))
		return bxc_buf_append(&t->pending, plain.p, plain.n, err);
	return write_plain(t, plain.p, plain.n, cipher_out, err);
}

bool bxc_tls_is_established(const bxc_tls *t)
{
	return SSL_is_init_finished(t->ssl);
}

char *bxc_tls_peer_name(const bxc_tls *t)
{
	X509 *x = SSL_get1_peer_certificate(t->ssl);
	char name[256];
	char *ret = NULL;
	if (x && SSL_get_verify_result(t->ssl) == X509_V_OK &&
		X509_NAME_get_text_by_NID(X509_get_subject_name(x), NID_commonName, name, sizeof(name)) > 0)
		ret = bxc_strdup(name);
	X509_free(x);
	return ret;
}

/* Hands what one side has said to the other. */
static int pass_on(bxc_tls *to, bxc_buf *said, bxc_buf *reply, bxc_err **err)
{
	BXC_AUTOBUF bxc_buf plain = BXC_BUF_INIT(PENDING_MAX);
	int r = bxc_tls_feed(to, bxc_buf_slice(said), &plain, reply, err);
	bxc_buf_clear(said);
	return r;
}

int bxc_tls_check_server(const bxc_tls_files *server, const char *ca_file, const char *host, bxc_err **err)
{
	BXC_CLEANUP(bxc_tls_config_unrefp) bxc_tls_config *sc = NULL;
	BXC_CLEANUP(bxc_tls_config_unrefp) bxc_tls_config *cc = NULL;
	BXC_CLEANUP(bxc_tls_freep) bxc_tls *s = NULL;
	BXC_CLEANUP(bxc_tls_freep) bxc_tls *c = NULL;
	BXC_AUTOBUF bxc_buf to_server = BXC_BUF_INIT(PENDING_MAX);
	BXC_AUTOBUF bxc_buf to_client = BXC_BUF_INIT(PENDING_MAX);
	const bxc_tls_files client = {.ca_file = ca_file};
	int r = bxc_tls_config_new(true, server, &sc, err);
	if (r >= 0)
		r = bxc_tls_config_new(false, &client, &cc, err);
	if (r >= 0)
		r = bxc_tls_new(sc, NULL, &s, err);
	if (r >= 0)
		r = bxc_tls_new(cc, host, &c, err);
	if (r >= 0)
		r = bxc_tls_start(c, &to_server, err);
	while (r >= 0 && !(bxc_tls_is_established(s) && bxc_tls_is_established(c))) {
		if (!to_server.len)
			return bxc_err_set(err, BXC_INTERNAL, "TLS: the handshake does not end");
		r = pass_on(s, &to_server, &to_client, err);
		if (r >= 0)
			r = pass_on(c, &to_client, &to_server, err);
	}
	return r;
}
