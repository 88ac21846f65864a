/* SPDX-License-Identifier: Apache-2.0 */
/* Whatever parses must print to text that parses to the same text again. */
#include <string.h>

#include "common/codec/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	BXC_AUTOJSON bxc_json *j = NULL;
	if (bxc_json_parse(bxc_slice_of(data, size), &j, NULL) < 0)
		return 0;
	char *(*const printers[])(const bxc_json *) = {
		bxc_json_print, bxc_json_print_go, bxc_json_print_pretty, bxc_json_print_canonical};
	for (size_t i = 0; i < BXC_ARRAY_SIZE(printers); i++) {
		BXC_AUTOFREE char *s = printers[i](j);
		BXC_AUTOJSON bxc_json *k = NULL;
		bxc_check(bxc_json_parse(bxc_slice_of(s, strlen(s)), &k, NULL) == 0);
		BXC_AUTOFREE char *t = printers[i](k);
		bxc_check(strcmp(s, t) == 0);
	}
	return 0;
}
