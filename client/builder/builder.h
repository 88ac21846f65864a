/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Builders: the clusters that this user knows by name, and the embedded cluster of this machine.
 * Module prefix: bxc_builder (one), bxc_bstore (the file). One thread.
 *
 * The file is builders.json in $BXC_CONFIG, else $XDG_CONFIG_HOME/bxc, else ~/.config/bxc; it holds
 * tokens, so only its owner can read it.
 */
#pragma once

#include "common/base/arr.h"
#include "common/base/err.h"
#include "common/base/secret.h"

#define BXC_BUILDER_EMBEDDED "default"

typedef struct bxc_builder {
	char *name;
	char *endpoint;              /* unix:PATH, http://host:port or https://host:port; NULL: embedded, not started */
	char *ca_file;               /* PEM; NULL: the system's */
	char *channel;               /* address of the channel; NULL: ask the coordinator */
	bxc_secret *token;           /* NULL: none */
	bool embedded;
} bxc_builder;

void bxc_builder_free(bxc_builder *b);
BXC_DEFINE_CLEANUP(bxc_builder, bxc_builder_free);
bxc_builder *bxc_builder_copy(const bxc_builder *b);
/* ^[a-zA-Z][a-zA-Z0-9._-]*$, at most 128 bytes. */
bool bxc_builder_name_is_valid(const char *name);

/* What an HTTP client needs of an endpoint; ret_unix is NULL for a TCP one. Both owned. */
BXC_MUST_CHECK int bxc_builder_parse_endpoint(const char *endpoint, char **ret_url, char **ret_unix, bxc_err **err);
/*
 * The channel's address as this machine reaches it: a wildcard host ("0.0.0.0", "[::]") becomes the
 * endpoint's host. Owned.
 */
char *bxc_builder_channel_address(const char *endpoint, const char *channel);

/* ---- the file ---- */
typedef struct bxc_bstore {
	char *dir;
	BXC_ARR(bxc_builder *) builders;   /* in order of creation; without the embedded one */
	char *current;               /* NULL: the embedded cluster */
	int lock_fd;                 /* held when opened for change */
} bxc_bstore;

/* An absent file is an empty store. for_change waits for other processes that change it. */
BXC_MUST_CHECK int bxc_bstore_open(bool for_change, bxc_bstore **ret, bxc_err **err);
void bxc_bstore_free(bxc_bstore *s);
BXC_DEFINE_CLEANUP(bxc_bstore, bxc_bstore_free);
BXC_MUST_CHECK int bxc_bstore_save(bxc_bstore *s, bxc_err **err);
const bxc_builder *bxc_bstore_find(const bxc_bstore *s, const char *name);   /* borrowed or NULL */
/* INVALID_ARGUMENT for a bad or reserved name, ALREADY_EXISTS; takes b on success. */
BXC_MUST_CHECK int bxc_bstore_add(bxc_bstore *s, bxc_builder *b, bxc_err **err);
/* NOT_FOUND: no builder "X" found. */
BXC_MUST_CHECK int bxc_bstore_remove(bxc_bstore *s, const char *name, bxc_err **err);
BXC_MUST_CHECK int bxc_bstore_use(bxc_bstore *s, const char *name, bxc_err **err);
/* The name that counts now: `given`, else $BUILDX_BUILDER, else $BXC_BUILDER, else the current one. */
const char *bxc_bstore_selected(const bxc_bstore *s, const char *given);
/* The builder of bxc_bstore_selected; the embedded one is not started by this. */
BXC_MUST_CHECK int bxc_bstore_resolve(const bxc_bstore *s, const char *given, bxc_builder **ret, bxc_err **err);

/* ---- the embedded cluster ---- */
/* Its state folder: $BXC_STATE, else /var/lib/bxc/embedded for root, else below the home. Owned. */
BXC_MUST_CHECK int bxc_embedded_state_dir(char **ret, bxc_err **err);
/*
 * Makes sure that the embedded cluster runs and fills in endpoint and channel. Blocks until both
 * daemons are ready. FAILED_PRECONDITION when not root. The daemons outlive this process.
 */
BXC_MUST_CHECK int bxc_embedded_start(bxc_builder *b, bxc_err **err);
/* Fills in endpoint and channel when it runs: 1; 0 when it does not. */
BXC_MUST_CHECK int bxc_embedded_probe(bxc_builder *b, bxc_err **err);
