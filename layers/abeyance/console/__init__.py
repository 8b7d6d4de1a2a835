"""What people have to look at rather than read, in a browser.

``cases`` and ``people`` are the rules, pure; ``reviews`` keeps the queue; ``desk``, ``policy``, ``books`` and ``erase``
each do what one role needs; ``web`` shows it. See docs/console.md and docs/adr/0010-console.md.
"""
