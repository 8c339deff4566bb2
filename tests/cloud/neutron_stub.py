"""The least that Nova takes for a Neutron when no server has a port.

Nova asks for a server's ports on evacuate, rebuild and delete even when the server was made with `networks: none`, and
fails if nobody answers. Every collection here is empty and nothing can be made. Usage: neutron_stub.py ADDRESS PORT
"""
import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COLLECTIONS = {
    'extensions', 'floatingips', 'networks', 'ports', 'qos/policies', 'quotas', 'routers', 'security-group-rules',
    'security-groups', 'segments', 'subnets',
}


class Stub(BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'

    def do_GET(self):
        path = self.path.partition('?')[0].strip('/')
        collection = path.removeprefix('v2.0').strip('/').removesuffix('.json')
        if not collection:
            link = {'rel': 'self', 'href': 'http://%s/v2.0/' % self.headers['Host']}
            self.answer(200, {'versions': [{'id': 'v2.0', 'status': 'CURRENT', 'links': [link]}]})
        elif collection in COLLECTIONS:
            self.answer(200, {collection.rpartition('/')[2].replace('-', '_'): []})
        else:
            self.refuse(404, 'NotFound', path)

    def do_POST(self):
        self.rfile.read(int(self.headers.get('Content-Length') or 0))
        self.refuse(409, 'Conflict', 'nothing can be changed in this stub')

    do_PUT = do_DELETE = do_POST

    def refuse(self, code, kind, message):
        self.answer(code, {'NeutronError': {'type': kind, 'message': message, 'detail': ''}})

    def answer(self, code, body):
        raw = json.dumps(body).encode()
        self.send_response(code)
        self.send_header('Content-Type', 'application/json')
        self.send_header('Content-Length', str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)


ThreadingHTTPServer((sys.argv[1], int(sys.argv[2])), Stub).serve_forever()
