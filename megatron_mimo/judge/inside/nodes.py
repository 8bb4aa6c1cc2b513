"""LeetCode's linked lists and trees: made of plain lists for parameters annotated with them, and back."""

MAX_NODES = 1_000_000
LIST, TREE = "ListNode", "TreeNode"


def arguments(function, given: list, namespace: dict) -> list:
    """The arguments with lists turned into nodes where the function's annotations say so."""
    annotations = getattr(function, "__annotations__", {})
    code = getattr(getattr(function, "__func__", function), "__code__", None)
    if code is None or not annotations:
        return given
    names = [*code.co_varnames[: code.co_argcount]][1 if hasattr(function, "__self__") else 0 :]
    names += [""] * (len(given) - len(names))
    asked = [annotations.get(name) for name in names[: len(given)]]
    return [made(value, kind_of(kind), kind, namespace) for value, kind in zip(given, asked, strict=True)]


def kind_of(annotation: object) -> str:
    text = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", "") + str(annotation)
    return LIST if LIST in text else TREE if TREE in text else ""


def made(value: object, kind: str, annotation: object, namespace: dict) -> object:
    if not kind or not isinstance(value, list):
        return value
    if value and all(isinstance(item, list) for item in value) and "ist[" in str(annotation):
        return [made(item, kind, "", namespace) for item in value]
    return (linked if kind == LIST else tree)(value, namespace[kind])


def linked(values: list, node_class: type) -> object:
    head = None
    for value in reversed(values):
        node = node_class(value)
        node.next = head
        head = node
    return head


def tree(values: list, node_class: type) -> object:
    """By levels; null stands for a missing child, whose own children are left out."""
    if not values or values[0] is None:
        return None
    root = node_class(values[0])
    level, place = [root], 1
    while level and place < len(values):
        parents, level = level, []
        for parent in parents:
            for side in ("left", "right"):
                value = values[place] if place < len(values) else None
                place += 1
                child = None if value is None else node_class(value)
                setattr(parent, side, child)
                if child is not None:
                    level.append(child)
    return root


def is_node(value: object) -> bool:
    return hasattr(value, "val") and (hasattr(value, "next") or hasattr(value, "left"))


def result(function, value: object) -> object:
    """No node is an empty list, where the function says that it returns one."""
    kind = kind_of(getattr(function, "__annotations__", {}).get("return"))
    return [] if value is None and kind else value


def values(node) -> list:
    """The list of a node. Raises ValueError for a ring."""
    found: list = []
    if hasattr(node, "next"):
        while node is not None:
            found.append(node.val)
            node = node.next
            if len(found) > MAX_NODES:
                raise ValueError("the list never ends")
        return found
    level = [node]
    while any(one is not None for one in level):
        found += [None if one is None else one.val for one in level]
        level = [child for one in level if one is not None for child in (one.left, one.right)]
        if len(found) > MAX_NODES:
            raise ValueError("the tree never ends")
    while found and found[-1] is None:
        found.pop()
    return found
