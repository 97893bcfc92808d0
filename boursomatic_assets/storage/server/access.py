"""Access to the embedded server: the owner of the home connects as any role, nobody else connects."""

from __future__ import annotations

import os
from pathlib import Path

from boursomatic_assets.storage.private import replace_file, user_name
from boursomatic_assets.storage.server.account import Account

_OWNER_MAP = "boursomatic"
_HBA = f"""\
# Written at every start of the server: only the owner of the home connects. Changes here do not last.
local all all peer map={_OWNER_MAP}
local replication all peer map={_OWNER_MAP}
"""


def restrict_access(data: Path, account: Account) -> bool:
    """Allow only the owner of the home to connect, as any role; returns whether that changed anything."""
    owner = user_name(os.geteuid()).replace('"', '""')
    has_changed = False
    for name, text in (("pg_hba.conf", _HBA), ("pg_ident.conf", f'{_OWNER_MAP} "{owner}" all\n')):
        path = data / name
        try:
            is_right = not path.is_symlink() and path.read_text(encoding="utf-8") == text
        except (OSError, UnicodeDecodeError):
            is_right = False
        if not is_right:
            replace_file(path, text, (-1, -1) if account.is_own else (account.user, account.group))
            has_changed = True
    return has_changed
