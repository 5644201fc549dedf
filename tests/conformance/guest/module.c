// SPDX-License-Identifier: Apache-2.0
/* Calls code in the kernel for the probe, and compares the kernel's text with what it was. */
#include <linux/delay.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/proc_fs.h>
#include <linux/sched.h>
#include <linux/uaccess.h>
#include <linux/vmalloc.h>

#include "mailbox.h"

static ulong text, text_end;
module_param(text, ulong, 0);
module_param(text_end, ulong, 0);

static u8 *text_copy;
static ulong int3_count;
static void *data;

extern const u8 probe_code[];

struct pair {
	u64 rax, rdx;
};
typedef struct pair (*function_fn)(u64, u64, u64, u64, u64, u64);

static ulong count_int3(void)
{
	ulong n = 0;
	const u8 *p;

	for (p = (const u8 *)text; p < (const u8 *)text_end; p++)
		n += *p == 0xcc;
	return n;
}

static void check(u64 *values)
{
	const u8 *now = (const u8 *)text;
	ulong bytes = text_end - text, i, count, before = jiffies;

	if (text_copy) {
		values[CHECK_TEXT_BYTES] = bytes;
		for (i = 0; i < bytes; i++) {
			/* Whole words are compared first: this may run in an emulator. */
			if (i % 8 == 0 && bytes - i >= 8 &&
			    *(const u64 *)(now + i) == *(const u64 *)(text_copy + i)) {
				i += 7;
				continue;
			}
			if (now[i] == text_copy[i])
				continue;
			if (!values[CHECK_TEXT]++)
				values[CHECK_WHERE] = text + i;
			if (values[CHECK_TEXT] <= 8)
				pr_info("hvmi_probe: %pS was 0x%02x, is 0x%02x\n", now + i,
					text_copy[i], now[i]);
		}
		count = count_int3();
		values[CHECK_INT3] = count > int3_count ? count - int3_count : 0;
	}
	msleep(20);
	if (jiffies == before)
		values[CHECK_TICKS]++;
}

static void call(struct probe_kcall *k)
{
	function_fn function = (function_fn)(ulong)k->function;
	ulong flags;
	struct pair r;

	local_irq_save(flags);
	r = function(k->args[0], k->args[1], k->args[2], k->args[3], k->args[4], k->args[5]);
	local_irq_restore(flags);
	k->values[0] = r.rax;
	k->values[1] = r.rdx;
}

static long probe_ioctl(struct file *file, unsigned int number, unsigned long argument)
{
	struct probe_kcall k;

	if (copy_from_user(&k, (void __user *)argument, sizeof(k)))
		return -EFAULT;
	memset(k.values, 0, sizeof(k.values));
	switch (k.op) {
	case 0:
		k.values[0] = (ulong)probe_code;
		k.values[1] = (ulong)data;
		break;
	case PROBE_KCALL:
		if (k.function < (ulong)probe_code || k.function >= (ulong)probe_code + PROBE_CODE_BYTES)
			return -EINVAL;
		call(&k);
		break;
	case PROBE_CHECK:
		check(k.values);
		break;
	default:
		return -EINVAL;
	}
	return copy_to_user((void __user *)argument, &k, sizeof(k)) ? -EFAULT : 0;
}

static const struct proc_ops operations = {
	.proc_ioctl = probe_ioctl,
};

static int __init probe_init(void)
{
	data = (void *)get_zeroed_page(GFP_KERNEL);
	if (!data)
		return -ENOMEM;
	if (text && text < text_end && text_end - text < (64ul << 20))
		text_copy = vmalloc(text_end - text);
	if (text_copy) {
		memcpy(text_copy, (const void *)text, text_end - text);
		int3_count = count_int3();
	}
	if (!proc_create("hvmi-probe", 0600, NULL, &operations)) {
		vfree(text_copy);
		free_page((ulong)data);
		return -ENOMEM;
	}
	return 0;
}

module_init(probe_init);

MODULE_LICENSE("Apache-2.0");
MODULE_DESCRIPTION("the kernel's part of libhvmi's conformance guest");
