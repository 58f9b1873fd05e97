"""Runs in the guest: much of Python's own code, little of it in loops: parsing, compiling, regular expressions, JSON, text, numbers."""
import ast
import glob
import hashlib
import json
import os
import re
import textwrap

digest = hashlib.md5()
words = {}
for path in sorted(glob.glob(os.path.join(os.path.dirname(os.__file__), '[a-h]*.py')))[:40]:
    with open(path, encoding='utf-8') as f:
        text = f.read()
    tree = ast.parse(text)
    names = sorted({node.id for node in ast.walk(tree) if isinstance(node, ast.Name)})
    compile(tree, path, 'exec')
    for word in re.findall(r'\b[A-Za-z_]\w{2,}(?=\s*\()', text):
        words[word] = words.get(word, 0) + 1
    digest.update(json.dumps(json.loads(json.dumps({'path': os.path.basename(path), 'names': names}))).encode())
    digest.update(textwrap.fill(' '.join(names), 60).encode())
digest.update(repr(sorted(words.items(), key=lambda w: (-w[1], w[0]))[:50]).encode())
digest.update(str(3 ** 5000 % 10 ** 400).encode())
print('RESULT python', digest.hexdigest())
