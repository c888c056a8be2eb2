"""Stands in for Kibana: passes on what Elasticsearch says of itself."""

import http.server
import os
import urllib.request


class Kibana(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        with urllib.request.urlopen(
            f"{os.environ['ELASTICSEARCH_HOSTS']}/_cluster/health"
        ) as asked:
            body = asked.read()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)


http.server.ThreadingHTTPServer(("", 5601), Kibana).serve_forever()
