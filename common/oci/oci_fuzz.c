/* SPDX-License-Identifier: Apache-2.0 */
/* Manifest, index and config: what parses must print to a document that prints the same again. */
#include <string.h>

#include "common/oci/oci.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void manifest(bxc_slice text)
{
	bxc_oci_manifest m, n;
	if (bxc_oci_manifest_parse(text, &m, NULL) < 0)
		return;
	BXC_AUTOFREE char *s = bxc_oci_manifest_print(&m);
	bxc_check(bxc_oci_manifest_parse(bxc_slice_of(s, strlen(s)), &n, NULL) == 0);
	BXC_AUTOFREE char *t = bxc_oci_manifest_print(&n);
	bxc_check(strcmp(s, t) == 0);
	bxc_oci_manifest_done(&m);
	bxc_oci_manifest_done(&n);
}

static void image_index(bxc_slice text)
{
	bxc_oci_index x, y;
	bxc_platform host = bxc_platform_host();
	if (bxc_oci_index_parse(text, &x, NULL) < 0)
		return;
	BXC_AUTOFREE char *s = bxc_oci_index_print(&x);
	bxc_check(bxc_oci_index_parse(bxc_slice_of(s, strlen(s)), &y, NULL) == 0);
	BXC_AUTOFREE char *t = bxc_oci_index_print(&y);
	bxc_check(strcmp(s, t) == 0);
	bxc_check(!bxc_oci_index_select(&x, &host) == !bxc_oci_index_select(&y, &host));
	bxc_oci_index_done(&x);
	bxc_oci_index_done(&y);
}

static void config(bxc_slice text)
{
	BXC_CLEANUP(bxc_oci_config_freep) bxc_oci_config *c = NULL, *d = NULL;
	if (bxc_oci_config_parse(text, &c, NULL) < 0)
		return;
	BXC_AUTOFREE char *s = bxc_oci_config_print(c);
	bxc_check(bxc_oci_config_parse(bxc_slice_of(s, strlen(s)), &d, NULL) == 0);
	BXC_AUTOFREE char *t = bxc_oci_config_print(d);
	bxc_check(strcmp(s, t) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	bxc_slice text = bxc_slice_of(data, size);
	manifest(text);
	image_index(text);
	config(text);
	return 0;
}
