"""The till: what a cashier sees and types. desk.py and what it uses know nothing of Textual."""
