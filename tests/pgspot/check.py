"""pgspot, which does not know function bodies without quotes: it would look for their text and fail.

Arguments are pgspot's own. The expressions in such bodies are visited like those of views.
"""

from pgspot import cli, visitors

check_quoted = visitors.SQLVisitor.visit_CreateFunctionStmt


def check(self, ancestors, node):
    if node.sql_body is None:
        check_quoted(self, ancestors, node)
    elif node.replace:
        self.state.warn("PS002", visitors.format_function(node))


visitors.SQLVisitor.visit_CreateFunctionStmt = check
cli.run()
