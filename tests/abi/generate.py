#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""generate.py HEADERS-FOLDER OUT: writes a C program that prints what programs have compiled into them:
sizes of public structs, offsets and sizes of their fields, and constants. A change of it breaks them."""

import os
import re
import sys

# Last in their enumerations, and they grow.
GROWING = re.compile(r"_END$")
# Fields are the only declarations in a public struct; those of backend tables may be functions.
FUNCTION = re.compile(r"\(\*(\w+)\)\s*\(")


def fields(body):
    for declaration in body.split(";"):
        declaration = declaration.strip()
        function = FUNCTION.search(declaration)
        if function:
            yield function.group(1)
            continue
        for part in declaration.split(","):
            name = re.search(r"(\w+)\s*(\[[^\]]*\])*$", part.strip())
            if name:
                yield name.group(1)


def main():
    folder = sys.argv[1]
    sys.stdout = open(sys.argv[2], "w")
    names = sorted(n for n in os.listdir(folder) if n.endswith(".h"))
    structs, constants = [], []
    for name in names:
        with open(os.path.join(folder, name)) as f:
            text = re.sub(r"/\*.*?\*/", "", f.read(), flags=re.S)
        for tag, body in re.findall(r"^struct (hvmi_\w+) \{(.*?)^\};", text, re.S | re.M):
            structs.append((tag, list(fields(body))))
        for body in re.findall(r"^enum \w+ \{(.*?)\};", text, re.S | re.M):
            for constant in body.split(","):
                constant = constant.split("=")[0].strip()
                if constant and not GROWING.search(constant):
                    constants.append(constant)
        constants += re.findall(r"^#define (HVMI_(?!VERSION)[A-Z0-9_]+) (?:[0-9]+u?|UINT64_MAX)", text, re.M)
    print("#include <inttypes.h>\n#include <stddef.h>\n#include <stdio.h>")
    for name in names:
        print("#include <hvmi/%s>" % name)
    print("int main(void)\n{")
    for tag, members in structs:
        print('printf("struct %s %%zu\\n", sizeof(struct %s));' % (tag, tag))
        for member in members:
            print('printf("  %s %%zu %%zu\\n", offsetof(struct %s, %s), sizeof(((struct %s *)0)->%s));'
                  % (member, tag, member, tag, member))
    for constant in constants:
        print('printf("%s %%" PRIu64 "\\n", (uint64_t)(%s));' % (constant, constant))
    print("return 0;\n}")


main()
