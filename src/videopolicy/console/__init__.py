"""What a person at the terminal sees, and how a process uses the machine: progress, memory, idle threads.

May import nothing of ours. Any room may report through it.
"""
