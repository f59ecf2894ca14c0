"""The .proto files and DESIGN section 4 are enough to check a log without any of our code."""

from __future__ import annotations

import json
import subprocess
import sys

from node.core.names import log_origin
from node.rpc.tls import certificate_pem, expected_name
from tests.end_to_end.harness import ALLIANCE, ROOT, eventually, result_record, result_records

CLIENT = ROOT / "tests" / "end_to_end" / "independent_client.py"


def test_a_client_of_the_protos_alone_verifies_a_log_at_its_author_and_at_a_mirror(make_mesh):
    mesh = make_mesh("jinan", "qingdao", "weifang")
    mesh.start("jinan", "qingdao")
    jinan, weifang = mesh["jinan"], mesh["weifang"]
    jinan.push(result_records("R", 300))
    jinan.push([result_record("HIDDEN", audience=["qingdao"])])
    eventually(lambda: mesh["qingdao"].peer("jinan").verified == 301, "qingdao has the log")
    eventually(lambda: jinan.status().state == "ready", "jinan publishes its log")

    folder = mesh.folder / "client"
    folder.mkdir()
    (folder / "key.pem").write_bytes(weifang.load_keys().tls_key_pem)
    (folder / "certificate.pem").write_bytes(certificate_pem(weifang.card.tls_certificates[0]))
    for server in ("jinan", "qingdao"):
        node = mesh[server]
        (folder / "server.pem").write_bytes(certificate_pem(node.card.tls_certificates[0]))
        address, name = f"127.0.0.1:{node.port}", expected_name(node.card)
        # Isolated: neither the checkout nor the working directory is on its path.
        command = [sys.executable, "-I", str(CLIENT), str(ROOT / "protos"), address, name, str(folder)]
        done = subprocess.run([*command, log_origin(ALLIANCE, "jinan")], capture_output=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr.decode()
        found = json.loads(done.stdout)
        assert found["keys"] == [f"R-{i:06d}" for i in range(300)]
        del found["keys"]
        assert found == {
            "size": 301,
            "root_is_right": True,
            "root": jinan.status().root.hex(),
            "commitments": 301,
            "openings_that_fit": 300,
            "rosters": 2,
            "own_modules": [],
        }
